// Finds libnvrtc and compiles text with it.
#include "device/cuda/nvrtc.h"

#include <nvrtc.h>

#include <algorithm>
#include <cstdlib>

#include "base/env.h"
#include "device/cuda/library.h"

namespace vortex::device {
namespace {

struct Nvrtc {
  decltype(&nvrtcVersion) version = nullptr;
  decltype(&nvrtcCreateProgram) create = nullptr;
  decltype(&nvrtcCompileProgram) compile = nullptr;
  decltype(&nvrtcDestroyProgram) destroy = nullptr;
  decltype(&nvrtcGetProgramLogSize) log_size = nullptr;
  decltype(&nvrtcGetProgramLog) log = nullptr;
  decltype(&nvrtcGetCUBINSize) cubin_size = nullptr;
  decltype(&nvrtcGetCUBIN) cubin = nullptr;
  decltype(&nvrtcGetNumSupportedArchs) architecture_count = nullptr;
  decltype(&nvrtcGetSupportedArchs) architectures = nullptr;
  decltype(&nvrtcGetErrorString) error_text = nullptr;
};

Nvrtc load_nvrtc() {
  std::string tried;
  void* library = load_library(nvrtc_files(), tried);
  if (library == nullptr) {
    throw MachineError("device cuda", "the CUDA run-time compiler (libnvrtc.so) was required", tried,
                       "install it (package nvidia-cuda-nvrtc or a CUDA toolkit), or name the file in VORTEX_NVRTC");
  }
  Nvrtc out;
  const auto find = [&](auto& member, const char* symbol) {
    member = reinterpret_cast<std::remove_reference_t<decltype(member)>>(find_symbol(library, symbol));
    if (member == nullptr) {
      throw MachineError("device cuda", concat("the NVRTC function ", symbol, " was required"), "this NVRTC lacks it",
                         "install NVRTC 12 or newer");
    }
  };
  find(out.version, "nvrtcVersion");
  find(out.create, "nvrtcCreateProgram");
  find(out.compile, "nvrtcCompileProgram");
  find(out.destroy, "nvrtcDestroyProgram");
  find(out.log_size, "nvrtcGetProgramLogSize");
  find(out.log, "nvrtcGetProgramLog");
  find(out.cubin_size, "nvrtcGetCUBINSize");
  find(out.cubin, "nvrtcGetCUBIN");
  find(out.architecture_count, "nvrtcGetNumSupportedArchs");
  find(out.architectures, "nvrtcGetSupportedArchs");
  find(out.error_text, "nvrtcGetErrorString");
  return out;
}

const Nvrtc& nvrtc() {
  static const Nvrtc loaded = load_nvrtc();
  return loaded;
}

}  // namespace

std::vector<std::string> nvrtc_files() {
  if (const std::string name = env("VORTEX_NVRTC"); !name.empty()) return {name};
  std::vector<std::string> folders = {""};
  if (const std::string own = own_folder(); !own.empty()) {
    for (const char* up : {"/../", "/../../"}) {  // the extension module lies one folder deep, libvortex.so two
      for (const char* package : {"cu13", "cuda_nvrtc"})
        folders.push_back(concat(own, up, "nvidia/", package, "/lib/"));
    }
  }
  for (const char* variable : {"CUDA_HOME", "CUDA_PATH"}) {
    if (const char* home = std::getenv(variable)) folders.push_back(concat(home, "/lib64/"));
  }
  folders.push_back(VORTEX_CUDA_INCLUDE "/../lib64/");
  folders.push_back(VORTEX_CUDA_INCLUDE "/../lib/");
  folders.push_back("/usr/local/cuda/lib64/");
  std::vector<std::string> names;
  for (const std::string& folder : folders) {
    for (const char* file : {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"}) names.push_back(folder + file);
  }
  return names;
}

const std::string& nvrtc_version() {
  static const std::string text = [] {
    int major = 0, minor = 0;
    nvrtc().version(&major, &minor);
    return concat(major, ".", minor);
  }();
  return text;
}

std::string nvrtc_architecture(int major, int minor) {
  int count = 0;
  nvrtc().architecture_count(&count);
  std::vector<int> known(static_cast<std::size_t>(count));
  nvrtc().architectures(known.data());
  const int wanted = major * 10 + minor;
  if (std::find(known.begin(), known.end(), wanted) == known.end()) {
    throw MachineError("device cuda", concat("an NVRTC that compiles for sm_", wanted, " was required"),
                       concat("NVRTC ", nvrtc_version(), " knows ", count, " architectures, this one not among them"),
                       "install the NVRTC of a CUDA release that fits the device");
  }
  return concat("sm_", wanted, wanted == 90 ? "a" : "");
}

const std::vector<std::string>& nvrtc_flags() {
  static const std::vector<std::string> flags = {"--std=c++17", "--fmad=true", "--ptxas-options=-v"};
  return flags;
}

Compiled compile_text(const Source& source, const std::string& architecture) {
  std::vector<const char*> names, texts;
  for (const Header& header : source.headers) {
    names.push_back(header.name.c_str());
    texts.push_back(header.text.c_str());
  }
  nvrtcProgram program = nullptr;
  const std::string file = source.name + ".cu";
  nvrtcResult result = nvrtc().create(&program, source.text.c_str(), file.c_str(), static_cast<int>(names.size()),
                                      texts.data(), names.data());
  VORTEX_CHECK(result == NVRTC_SUCCESS, nvrtc().error_text(result));

  std::vector<std::string> flags = nvrtc_flags();
  flags.push_back("--gpu-architecture=" + architecture);
  std::vector<const char*> options;
  for (const std::string& flag : flags) options.push_back(flag.c_str());
  result = nvrtc().compile(program, static_cast<int>(options.size()), options.data());

  Compiled out;
  std::size_t size = 0;
  if (nvrtc().log_size(program, &size) == NVRTC_SUCCESS && size > 1) {
    out.log.resize(size);
    nvrtc().log(program, out.log.data());
    out.log.resize(size - 1);
  }
  if (result != NVRTC_SUCCESS) {
    nvrtc().destroy(&program);
    throw InternalError(concat("compile ", source.name, " for ", architecture), "CUDA text that compiles was required",
                        concat(nvrtc().error_text(result), ":\n", out.log),
                        "report this with the flow that was compiled");
  }
  result = nvrtc().cubin_size(program, &size);
  if (result == NVRTC_SUCCESS) {
    out.binary.resize(size);
    result = nvrtc().cubin(program, out.binary.data());
  }
  nvrtc().destroy(&program);
  VORTEX_CHECK(result == NVRTC_SUCCESS && !out.binary.empty(), nvrtc().error_text(result));
  return out;
}

}  // namespace vortex::device
