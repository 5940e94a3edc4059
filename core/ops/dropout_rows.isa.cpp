#include <tendril/core/ops/dropout_rows.h>

namespace tendril::cpu::TENDRIL_ISA {

template <class T>
void dropout_run(const T* x, T* __restrict y, int64_t first, int64_t n, PhiloxStream stream,
                 uint32_t threshold, double scale) {
  constexpr int64_t kGroup = kPhiloxWords;
  const T factor = static_cast<T>(scale);
  uint32_t words[kGroup];
  for (int64_t begin = 0; begin < n; begin += kGroup) {
    philox_words(stream, static_cast<uint64_t>((first + begin) / kGroup), words);
    const int64_t count = n - begin < kGroup ? n - begin : kGroup;
    // A select, not a product with 0: a dropped infinity or NaN is gone.
    for (int64_t i = 0; i < count; ++i) {
      const T kept = x[begin + i] * factor;
      y[begin + i] = words[i] < threshold ? T(0) : kept;
    }
  }
}

template void dropout_run(const float*, float*, int64_t, int64_t, PhiloxStream, uint32_t, double);
template void dropout_run(const double*, double*, int64_t, int64_t, PhiloxStream, uint32_t, double);

}  // namespace tendril::cpu::TENDRIL_ISA
