#include <tendril/core/cuda/bulk_copy.cuh>

#include <tendril/core/error.h>

namespace tendril::cuda {
namespace {

using Encode = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*,
                            const cuuint64_t*, const cuuint32_t*, const cuuint32_t*,
                            CUtensorMapInterleave, CUtensorMapSwizzle, CUtensorMapL2promotion,
                            CUtensorMapFloatOOBfill);

// From the driver, which is not linked.
Encode encoder() {
  static const Encode function = [] {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult status{};
#if CUDART_VERSION >= 12050
    TENDRIL_CUDA_CHECK(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000,
                                                        cudaEnableDefault, &status));
#else
    TENDRIL_CUDA_CHECK(
        cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &found, cudaEnableDefault, &status));
#endif
    TENDRIL_CHECK(status == cudaDriverEntryPointSuccess && found,
                  "[cuda] the driver knows no tensor maps: update it to one for CUDA 12 or later");
    return reinterpret_cast<Encode>(found);
  }();
  return function;
}

}  // namespace

CUtensorMap tensor_map(const void* data, bool is_bf16, const int64_t (&sizes)[4],
                       const int64_t (&strides)[3], int tile_rows) {
  cuuint64_t extents[4], bytes[3];
  for (int i = 0; i < 4; ++i)  // the innermost first; nothing is copied from an empty tensor
    extents[i] = static_cast<cuuint64_t>(std::max<int64_t>(1, sizes[3 - i]));
  for (int i = 0; i < 3; ++i)  // the stride of a single row, head or batch may be anything
    bytes[i] = extents[i + 1] == 1 ? 16 : static_cast<cuuint64_t>(2 * strides[2 - i]);
  const cuuint32_t box[4] = {64, static_cast<cuuint32_t>(tile_rows), 1, 1}, steps[4] = {1, 1, 1, 1};
  CUtensorMap map;
  const CUresult status =
      encoder()(&map, is_bf16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
                4, const_cast<void*>(data), extents, bytes, box, steps,
                CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  TENDRIL_CHECK(status == CUDA_SUCCESS, "[cuda] the driver refuses to describe a tensor of shape (",
                sizes[0], ", ", sizes[1], ", ", sizes[2], ", ", sizes[3], ") with strides (",
                strides[0], ", ", strides[1], ", ", strides[2], ", 1): driver error ",
                static_cast<int>(status));
  return map;
}

}  // namespace tendril::cuda
