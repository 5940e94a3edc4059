#include <tendril/core/cuda/cublaslt.cuh>

#include <cstdlib>
#include <string>
#include <vector>

#include <tendril/core/error.h>
#include <tendril/core/shared_library.h>

namespace tendril::cuda {
namespace {

std::vector<std::string> candidates() {
  if (const char* chosen = std::getenv("TENDRIL_CUBLASLT"); chosen && *chosen) return {chosen};
  const std::string plain = "libcublasLt.so";
  const std::string name = plain + "." + std::to_string(CUBLAS_VER_MAJOR);
  std::vector<std::string> result = {name};
#ifdef TENDRIL_CUDA_LIBRARY_DIR  // of the toolkit that this was built with
  result.push_back(TENDRIL_CUDA_LIBRARY_DIR "/" + name);
#endif
  result.push_back("/usr/local/cuda/lib64/" + name);
  result.push_back(plain);
  return result;
}

CublasLt load() {
  const SharedLibrary library(
      "blas", candidates(),
      "products on a GPU need cuBLASLt; put its folder into LD_LIBRARY_PATH or name the file in "
      "TENDRIL_CUBLASLT");
  CublasLt table{};
#define TENDRIL_TAKE(member, name) table.member = library.function<decltype(::name)>(#name);
  TENDRIL_CUBLASLT_FUNCTIONS(TENDRIL_TAKE)
#undef TENDRIL_TAKE
  const size_t version = table.version(), major = version / 10000;
  TENDRIL_CHECK(major == CUBLAS_VER_MAJOR, "[blas] ", library.name(), " is cuBLASLt ", version,
                " but this was built for version ", CUBLAS_VER_MAJOR,
                "; name a fitting file in TENDRIL_CUBLASLT");
  return table;
}

}  // namespace

const CublasLt& cublaslt() {
  static const CublasLt table = load();
  return table;
}

}  // namespace tendril::cuda
