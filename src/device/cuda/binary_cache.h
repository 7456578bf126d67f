// Compiled kernels on disk: KEY.cu (the text, a line about the binary above it) beside KEY.cubin, both published by
// rename, so that many processes may use one folder. Nothing in it is trusted: text and checksum must match, else it is
// a miss. A folder that cannot be written (full disk, no permission) costs time, never correctness.
#pragma once

#include <functional>
#include <string>

namespace vortex::device {

struct CacheResult {
  std::string binary;
  bool hit = false;
  std::string note;  // why the result was not stored; empty when it was
};

class BinaryCache {
 public:
  explicit BinaryCache(std::string folder) : folder_(std::move(folder)) {}
  // The folder cuda in $VORTEX_CACHE; "" (no cache) when that begins with ~ and HOME is not set.
  static std::string default_folder();

  // `identity`: everything the binary depends on, as text. `compile` runs on a miss.
  CacheResult get(const std::string& identity, const std::function<std::string()>& compile) const;
  std::string path(const std::string& identity, const char* extension) const;

 private:
  bool read(const std::string& identity, std::string& binary) const;
  std::string write(const std::string& identity, const std::string& binary) const;

  std::string folder_;
};

}  // namespace vortex::device
