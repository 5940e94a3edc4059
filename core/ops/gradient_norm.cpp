#include <tendril/core/ops/gradient_norm.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include <tendril/core/cpu/half_convert.h>
#include <tendril/core/creation.h>
#include <tendril/core/for_each_tensor.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/dispatch.h>
#include <tendril/core/ops/inplace.h>
#include <tendril/core/ops/memory_order.h>
#include <tendril/core/ops/optimizer_kernels.h>
#include <tendril/core/threads.h>

namespace tendril::ops {
namespace {

constexpr int64_t kChunk = int64_t{1} << 15;  // elements per piece of work
constexpr int64_t kBlock = 1024;              // elements converted at a time, on the stack

template <class Body>
void for_each(std::span<const Tensor> tensors, const Body& body) {
  for_each_tensor(
      tensors.size(), [&](size_t i) { return tensors[i].numel(); }, body);
}

}  // namespace

namespace cpu {
namespace {

// Adds up term(begin, end) over fixed pieces, in their order.
template <class Term>
double combine_pieces(int64_t count, const Term& term, double (*combine)(double, double)) {
  std::vector<double> pieces(static_cast<size_t>((count + kChunk - 1) / kChunk), 0.0);
  parallel_for(count, kChunk, [&](int64_t begin, int64_t end) {
    pieces[static_cast<size_t>(begin / kChunk)] = term(begin, end);
  });
  double result = 0.0;
  for (const double piece : pieces) result = combine(result, piece);
  return result;
}

double sum_of_squares(const Tensor& x) {
  return visit_floating("sum_of_squares", x.dtype(), [&]<class T>(TypeTag<T>) {
    const T* const data = x.data<T>();
    const auto term = [&](int64_t begin, int64_t end) {
      if constexpr (std::is_same_v<T, compute_t<T>>) {
        return TENDRIL_ISA_CALL(square_sum_block(end - begin, data + begin));
      } else {
        double total = 0.0;
        float block[kBlock];
        for (int64_t at = begin; at < end; at += kBlock) {
          const int64_t n = std::min(kBlock, end - at);
          tendril::cpu::convert_run(data + at, block, n);
          total += TENDRIL_ISA_CALL(square_sum_block(n, block));
        }
        return total;
      }
    };
    return combine_pieces(x.numel(), term, [](double a, double b) { return a + b; });
  });
}

double larger(double a, double b) { return b > a || std::isnan(b) ? b : a; }  // NaN stays

double largest_magnitude(const Tensor& x) {
  return visit_floating("largest_magnitude", x.dtype(), [&]<class T>(TypeTag<T>) {
    const T* const data = x.data<T>();
    const auto term = [&](int64_t begin, int64_t end) {
      double result = 0.0;
      for (int64_t i = begin; i < end; ++i)
        result = larger(result, std::abs(static_cast<double>(data[i])));
      return result;
    };
    return combine_pieces(x.numel(), term, larger);
  });
}

Tensor norm_of_all(std::span<const Tensor> tensors, double norm_type) {
  std::vector<double> parts(tensors.size());
  double total = 0.0;
  if (norm_type == 2.0) {
    for_each(tensors, [&](size_t i) { parts[i] = sum_of_squares(tensors[i]); });
    for (const double part : parts) total += part;
    total = std::sqrt(total);
  } else {
    for_each(tensors, [&](size_t i) { parts[i] = largest_magnitude(tensors[i]); });
    for (const double part : parts) total = larger(total, part);
  }
  return Tensor::from({total}, {});
}

void clip_all(std::span<const Tensor> tensors, const Tensor& norm, double max_norm) {
  const double value = norm.item<double>(), factor = max_norm / (value + 1e-6);
  if (!std::isfinite(value) || factor >= 1.0) return;
  for_each(tensors, [&](size_t i) { mul_in_place(tensors[i], factor); });
}

}  // namespace
}  // namespace cpu

namespace cuda {  // gradient_norm.cu
Tensor norm_of_all(std::span<const Tensor> tensors, double norm_type);
void clip_all(std::span<const Tensor> tensors, const Tensor& norm, double max_norm);
double sum_of_squares(const Tensor& x);
double largest_magnitude(const Tensor& x);
}  // namespace cuda

double sum_of_squares(const Tensor& x) {
  return TENDRIL_ON_DEVICE(x, sum_of_squares(in_memory_order(x)));
}

double largest_magnitude(const Tensor& x) {
  return TENDRIL_ON_DEVICE(x, largest_magnitude(in_memory_order(x)));
}

Tensor norm_of_all(std::span<const Tensor> tensors, double norm_type) {
  TENDRIL_CHECK(norm_type == 2.0 || norm_type == INFINITY,
                "[grad_norm] norm_type must be 2 or infinity; got ", norm_type);
  if (tensors.empty()) return zeros({}, f64);
  std::vector<Tensor> dense;
  for (const Tensor& tensor : tensors) {
    require_same_device("grad_norm", tensors[0], tensor);
    visit_floating("grad_norm", tensor.dtype(), [](auto) {});
    dense.push_back(in_memory_order(tensor));
  }
  return TENDRIL_ON_DEVICE(tensors[0], norm_of_all(dense, norm_type));
}

void clip_all(std::span<const Tensor> tensors, const Tensor& norm, double max_norm) {
  if (tensors.empty()) return;
  TENDRIL_CHECK(norm.dtype() == f64 && norm.numel() == 1,
                "[clip_grad_norm] the norm must be one f64; got ", norm.dtype(), " ", norm.shape());
  std::vector<Tensor> dense;
  for (const Tensor& tensor : tensors) {
    require_same_device("clip_grad_norm", norm, tensor);
    visit_floating("clip_grad_norm", tensor.dtype(), [](auto) {});
    dense.push_back(in_memory_order(tensor));
  }
  TENDRIL_ON_DEVICE(norm, clip_all(dense, norm, max_norm));
  for (size_t i = 0; i < dense.size(); ++i)
    if (dense[i].storage() != tensors[i].storage()) copy(tensors[i], dense[i]);
}

}  // namespace tendril::ops
