#include <tendril/core/creation.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include <tendril/core/ops/convert.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/random_fill.h>
#include <tendril/core/threads.h>

namespace tendril {
namespace {

constexpr int64_t kChunk = 16384;

// values[i] = value(i), converted to the element type.
template <class Value>
Tensor generate(int64_t count, DType dtype, const Value& value) {
  Tensor result = Tensor::empty({count}, dtype);
  visit_dtype(dtype, [&]<class T>(TypeTag<T>) {
    T* data = result.data<T>();
    parallel_for(count, kChunk, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) data[i] = ops::convert<T>(value(i));
    });
  });
  return result;
}

RandomKey key_or_next(const std::optional<RandomKey>& key) {
  return key ? *key : default_generator().next(Stream::model);
}

Tensor moved(const Tensor& made, Device device) {
  if (device.is_cpu()) return made;
  const Tensor there = Tensor::empty(made.shape(), made.dtype(), device);
  ops::copy(there, made);
  return there;
}

void require_representable(int64_t low, int64_t last, DType dtype) {
  visit_dtype(dtype, [&]<class T>(TypeTag<T>) {
    if constexpr (std::is_integral_v<T>) {
      TENDRIL_CHECK(low >= static_cast<int64_t>(std::numeric_limits<T>::min()) &&
                        last <= static_cast<int64_t>(std::numeric_limits<T>::max()),
                    "[randint] values do not fit the dtype; got [", low, ", ", last, "] for ",
                    dtype, "; use a wider dtype");
    }
  });
}

}  // namespace

Tensor full(const Shape& shape, double value, DType dtype, Device device) {
  Tensor result = Tensor::empty(shape, dtype, device);
  ops::fill(result, value);
  return result;
}

Tensor zeros(const Shape& shape, DType dtype, Device device) {
  return full(shape, 0.0, dtype, device);
}

Tensor ones(const Shape& shape, DType dtype, Device device) {
  return full(shape, 1.0, dtype, device);
}

Tensor empty_like(const Tensor& x) { return Tensor::empty(x.shape(), x.dtype(), x.device()); }

Tensor zeros_like(const Tensor& x) { return zeros(x.shape(), x.dtype(), x.device()); }

Tensor ones_like(const Tensor& x) { return ones(x.shape(), x.dtype(), x.device()); }

Tensor full_like(const Tensor& x, double value) {
  return full(x.shape(), value, x.dtype(), x.device());
}

Tensor arange(double start, double stop, double step, DType dtype, Device device) {
  TENDRIL_CHECK(std::isfinite(start) && std::isfinite(stop) && std::isfinite(step) && step != 0,
                "[arange] start and stop must be finite and step finite and not 0; got start ",
                start, ", stop ", stop, ", step ", step);
  const double count = std::max(0.0, std::ceil((stop - start) / step));
  TENDRIL_CHECK(count < 0x1p53, "[arange] too many elements; got start ", start, ", stop ", stop,
                ", step ", step);
  const auto value = [=](int64_t i) { return start + static_cast<double>(i) * step; };
  return moved(generate(static_cast<int64_t>(count), dtype, value), device);
}

Tensor arange(int64_t stop, DType dtype, Device device) {
  TENDRIL_CHECK(stop >= 0, "[arange] stop must not be negative without a start; got ", stop);
  return moved(generate(stop, dtype, [](int64_t i) { return i; }), device);
}

Tensor linspace(double start, double stop, int64_t count, DType dtype, Device device) {
  TENDRIL_CHECK(count >= 0, "[linspace] count must not be negative; got ", count);
  TENDRIL_CHECK(std::isfinite(start) && std::isfinite(stop) && std::isfinite(stop - start),
                "[linspace] start, stop and their distance must be finite; got ", start, " and ",
                stop);
  const double step = count > 1 ? (stop - start) / static_cast<double>(count - 1) : 0.0;
  // The second half counts from the end, so that the last element is exactly `stop`.
  const auto value = [=](int64_t i) {
    const int64_t from_end = count - 1 - i;
    return i <= from_end ? start + static_cast<double>(i) * step
                         : stop - static_cast<double>(from_end) * step;
  };
  return moved(generate(count, dtype, value), device);
}

Tensor eye(int64_t rows, int64_t columns, DType dtype, Device device) {
  if (columns == -1) columns = rows;
  TENDRIL_CHECK(rows >= 0 && columns >= 0, "[eye] sizes must not be negative; got ", rows, " and ",
                columns);
  Tensor result = zeros({rows, columns}, dtype, device);
  const int64_t count = std::min(rows, columns);
  if (count > 0) ops::fill(Tensor::view(result.storage(), 0, {count}, {columns + 1}, dtype), 1.0);
  return result;
}

Tensor rand(const Shape& shape, DType dtype, std::optional<RandomKey> key, Device device) {
  visit_floating("rand", dtype, [](auto) {});
  const Tensor result = Tensor::empty(shape, dtype, device);
  ops::fill_uniform(result, key_or_next(key));
  return result;
}

Tensor randn(const Shape& shape, DType dtype, std::optional<RandomKey> key, Device device) {
  visit_floating("randn", dtype, [](auto) {});
  const Tensor result = Tensor::empty(shape, dtype, device);
  ops::fill_normal(result, key_or_next(key));
  return result;
}

Tensor randint(int64_t low, int64_t high, const Shape& shape, DType dtype,
               std::optional<RandomKey> key, Device device) {
  TENDRIL_CHECK(low < high, "[randint] low must be below high; got ", low, " and ", high);
  require_representable(low, high - 1, dtype);
  const uint64_t range = static_cast<uint64_t>(high) - static_cast<uint64_t>(low);
  const bool one_word = range <= uint64_t{1} << 32;
  const int64_t count = shape.numel();
  const RandomKey draw = key_or_next(key);
  Tensor result = Tensor::empty(shape, dtype);
  visit_dtype(dtype, [&]<class T>(TypeTag<T>) {
    T* data = result.data<T>();
    parallel_for(count, kChunk, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        // The random fraction times the range, in integers: word * range / 2^32 (or / 2^64).
        const auto element = static_cast<uint64_t>(i);
        uint64_t offset = 0;
        if (one_word) {
          offset = draw.bits(element) * range >> 32;
        } else {
          const uint64_t word = uint64_t{draw.bits(2 * element)} << 32 | draw.bits(2 * element + 1);
          offset = static_cast<uint64_t>(static_cast<unsigned __int128>(word) * range >> 64);
        }
        data[i] = ops::convert<T>(static_cast<int64_t>(static_cast<uint64_t>(low) + offset));
      }
    });
  });
  return moved(result, device);
}

}  // namespace tendril
