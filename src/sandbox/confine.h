// Gives up what the calling process may do, for good, so that code nobody trusts can run in it. Two walls of the Linux
// kernel that need no rights: Landlock for files, a seccomp filter for system calls. Both hold for the calling thread
// and what it starts; call them where there is one thread. Neither can be taken back.
#pragma once

#include <string>
#include <vector>

namespace vortex::sandbox {

// Why the kernel does not offer it; empty where it does.
std::string landlock_missing();
std::string seccomp_missing();

// Files can be read under these paths and nowhere else, and nothing can be written, made, renamed or removed. What a
// file is called and how large it is can still be seen. Paths that do not exist are passed over. MachineError without
// Landlock.
void restrict_files(const std::vector<std::string>& readable);

// The process computes, reads what it may open, and writes to these descriptors; nothing else: no file opened for
// writing, no sockets, no processes or threads, no signals, no code mapped from files. Other system calls fail with
// EPERM. MachineError without seccomp.
void restrict_calls(const std::vector<int>& written);

// A number of 128 bits that marks answers as written by write_answer. It lies outside of what the interpreter shows.
void new_seal();

// Size, seal and text to the descriptor. False where the other end has gone.
bool write_answer(int descriptor, const std::string& text);

// The text of an answer, when it carries the seal.
bool open_answer(const std::string& answer, std::string& text);

}  // namespace vortex::sandbox
