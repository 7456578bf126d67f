// Reads and publishes compiled kernels.
#include "device/cuda/binary_cache.h"

#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "base/env.h"
#include "base/text.h"

namespace vortex::device {
namespace {

bool read_file(const std::string& path, std::string& out) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return false;
  out.assign(std::istreambuf_iterator<char>(file), {});
  return !file.bad();
}

// Writes all of `bytes` under a name of this process and renames it to `path`; "" or why it failed, nothing left
// behind.
std::string publish(const std::string& path, const std::string& bytes) {
  static std::atomic<std::uint64_t> counter = 0;
  const std::string temporary = concat(path, ".", static_cast<std::int64_t>(getpid()), ".", counter++);
  std::string failure;
  {
    std::ofstream file(temporary, std::ios::binary | std::ios::trunc);
    file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    file.close();
    if (!file) failure = concat("writing ", temporary, ": ", std::strerror(errno));
  }
  if (failure.empty() && std::rename(temporary.c_str(), path.c_str()) != 0) {
    failure = concat("renaming ", temporary, ": ", std::strerror(errno));
  }
  if (!failure.empty()) std::remove(temporary.c_str());
  return failure;
}

std::string file_text(const std::string& identity, const std::string& binary) {
  Hash hash;
  hash.add(binary);
  return concat("// binary of ", binary.size(), " bytes, hash ", hash.hex(), "\n", identity);
}

}  // namespace

std::string BinaryCache::default_folder() {
  std::string folder = env("VORTEX_CACHE");
  if (folder.starts_with("~")) {
    const char* home = std::getenv("HOME");
    if (home == nullptr || *home == '\0') return "";
    folder = home + folder.substr(1);
  }
  return folder + "/cuda";
}

std::string BinaryCache::path(const std::string& identity, const char* extension) const {
  Hash hash;
  hash.add(identity);
  return concat(folder_, "/", hash.hex(), extension);
}

bool BinaryCache::read(const std::string& identity, std::string& binary) const {
  std::string text;
  return read_file(path(identity, ".cubin"), binary) && read_file(path(identity, ".cu"), text) &&
         text == file_text(identity, binary);
}

std::string BinaryCache::write(const std::string& identity, const std::string& binary) const {
  std::error_code error;
  std::filesystem::create_directories(folder_, error);
  if (error) return concat("making the folder ", folder_, ": ", error.message());
  std::string failure = publish(path(identity, ".cubin"), binary);
  if (failure.empty()) failure = publish(path(identity, ".cu"), file_text(identity, binary));
  return failure;
}

CacheResult BinaryCache::get(const std::string& identity, const std::function<std::string()>& compile) const {
  CacheResult out;
  if (folder_.empty()) {
    out.binary = compile();
    out.note = "no cache folder: set VORTEX_CACHE or HOME";
    return out;
  }
  if (read(identity, out.binary)) {
    out.hit = true;
    return out;
  }
  out.binary = compile();
  if (const std::string failure = write(identity, out.binary); !failure.empty()) {
    out.note = concat("not cached: ", failure, "; free space there or set VORTEX_CACHE to another folder");
  }
  return out;
}

}  // namespace vortex::device
