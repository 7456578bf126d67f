// Checks of the CUDA printer.
//   cuda token= dim= head=        the kernels of the compiled flow; passed over with a line when the build has no CUDA
//   part
#include <cstdio>
#include <cstdlib>

#include "runner.h"
#if VORTEX_CUDA
#include "codegen/cuda/print.h"
#endif

namespace vortex::text_tests {

void add_cuda_checks(std::map<std::string, Check>& checks) {
#if VORTEX_CUDA
  checks["cuda"] = [](const std::string& text, const std::string& arguments, const std::string&) {
    const auto integer = [&](const char* key, const char* fallback) {
      return std::strtoll(argument(arguments, key, fallback).c_str(), nullptr, 10);
    };
    const ir::Program program = ir::parse(text);
    ir::verify(program);
    const codegen::CudaFlow flow = codegen::print_cuda(
        compiler::compile(program, {integer("token", "16"), integer("dim", "64"), integer("head", "4")}));
    return flow.text;
  };
#else
  checks["cuda"] = [](const std::string&, const std::string&, const std::string& expected) {
    std::printf("check cuda passed over: built without the CUDA device\n");
    return expected;
  };
#endif
}

}  // namespace vortex::text_tests
