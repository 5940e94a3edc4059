// Choosing between cpu:: and cuda:: functions of the same signature. No stub files and no virtual
// interface: without CUDA the choice is an error.
#pragma once

#include <tendril/core/tensor.h>

namespace tendril::ops {

/// Error unless all defined tensors are on the device of the first.
template <class... Tensors>
void require_same_device(const char* op, const Tensor& first, const Tensors&... others) {
  const auto check = [&](const Tensor& other) {
    TENDRIL_CHECK(!other.defined() || other.device() == first.device(), "[", op,
                  "] tensors are on different devices; got ", first.device(), " and ",
                  other.device(), "; move them with to(x, device)");
  };
  (check(others), ...);
}

}  // namespace tendril::ops

/// TENDRIL_ON_DEVICE(x, softmax(x, y)) calls cpu::softmax(x, y) or cuda::softmax(x, y).
#ifdef TENDRIL_WITH_CUDA
#define TENDRIL_ON_DEVICE(tensor, ...) \
  ((tensor).device().is_cuda() ? cuda::__VA_ARGS__ : cpu::__VA_ARGS__)
#else
#define TENDRIL_ON_DEVICE(tensor, ...)                                                          \
  (((tensor).device().is_cpu()                                                                  \
        ? void()                                                                                \
        : ::tendril::fail("[device] built without CUDA; got a tensor on ", (tensor).device())), \
   cpu::__VA_ARGS__)
#endif
