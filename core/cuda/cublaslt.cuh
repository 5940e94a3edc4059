// cuBLASLt's functions, taken from its shared library at the first product on a GPU. Linked, it
// would cost every program of a build with CUDA 150 MiB from its start, those without a GPU too.
#pragma once

#include <cublasLt.h>

namespace tendril::cuda {

/// Member, and the function of the library that it points to. The three that initialise
/// descriptors stand behind inline functions of the header, which would link the library.
#define TENDRIL_CUBLASLT_FUNCTIONS(F)                       \
  F(version, cublasLtGetVersion)                            \
  F(status_text, cublasLtGetStatusString)                   \
  F(create, cublasLtCreate)                                 \
  F(init_operation, cublasLtMatmulDescInit_internal)        \
  F(set_operation, cublasLtMatmulDescSetAttribute)          \
  F(init_layout, cublasLtMatrixLayoutInit_internal)         \
  F(set_layout, cublasLtMatrixLayoutSetAttribute)           \
  F(init_preference, cublasLtMatmulPreferenceInit_internal) \
  F(set_preference, cublasLtMatmulPreferenceSetAttribute)   \
  F(choose, cublasLtMatmulAlgoGetHeuristic)                 \
  F(multiply, cublasLtMatmul)

struct CublasLt {
#define TENDRIL_MEMBER(member, function) decltype(::function)* member;
  TENDRIL_CUBLASLT_FUNCTIONS(TENDRIL_MEMBER)
#undef TENDRIL_MEMBER
};

/// Loads the library when it is called first. It must have the major version of the headers: that
/// of the toolkit which compiled this. TENDRIL_CUBLASLT in the environment names another file; else
/// libcublasLt.so.<major> is looked for as the dynamic linker does it, then in the folder of that
/// toolkit and in the one where toolkits usually are, and at last as libcublasLt.so. An Error lists
/// what was tried.
const CublasLt& cublaslt();

}  // namespace tendril::cuda
