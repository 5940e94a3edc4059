#include <tendril/core/ops/rotary.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include <tendril/core/ops/dispatch.h>
#include <tendril/core/ops/elements.h>
#include <tendril/core/threads.h>

namespace tendril::ops {
namespace cpu {
namespace {

// cos and sin of the angles position * frequency, for positions first, first + step, ...: (count,
// D/2). The angles are formed in double: a float holds the angle of position 1e5 to 0.004 only.
struct Turns {
  std::vector<double> cosine, sine;

  Turns(int64_t first, int64_t step, int64_t count, const std::vector<double>& frequency) {
    cosine.reserve(static_cast<size_t>(count) * frequency.size());
    sine.reserve(cosine.capacity());
    for (int64_t i = 0; i < count; ++i) {
      for (const double f : frequency) {
        const double angle = (static_cast<double>(first) + static_cast<double>(i * step)) * f;
        cosine.push_back(std::cos(angle));
        sine.push_back(std::sin(angle));
      }
    }
  }
};

// cos and sin of every angle, (T, D/2) each. Position 32 a + b turns by the angle of 32 a and then
// by that of b, which takes one multiplication of complex numbers instead of a cosine and a sine.
template <class C>
struct Rotation {
  int64_t half;
  std::vector<C> cosine, sine;

  Rotation(int64_t positions, int64_t channels, double theta, int64_t offset, double direction)
      : half(channels / 2),
        cosine(static_cast<size_t>(positions * half)),
        sine(static_cast<size_t>(positions * half)) {
    std::vector<double> frequency;
    for (int64_t i = 0; i < half; ++i)
      frequency.push_back(
          std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(channels)));
    constexpr int64_t kFine = 32;
    const Turns fine(0, 1, std::min(kFine, positions), frequency);
    const Turns coarse(offset, kFine, (positions + kFine - 1) / kFine, frequency);
    for (int64_t t = 0; t < positions; ++t) {
      const int64_t a = t / kFine * half, b = t % kFine * half, at = t * half;
      const double *ca = coarse.cosine.data() + a, *sa = coarse.sine.data() + a;
      const double *cb = fine.cosine.data() + b, *sb = fine.sine.data() + b;
      C *c = cosine.data() + at, *s = sine.data() + at;
      for (int64_t i = 0; i < half; ++i) {
        c[i] = static_cast<C>(ca[i] * cb[i] - sa[i] * sb[i]);
        s[i] = static_cast<C>(direction * (sa[i] * cb[i] + ca[i] * sb[i]));
      }
    }
  }

  // Pairs (i, i + half).
  void rotate_halves(const C* x, C* y, int64_t position) const {
    const C *c = cosine.data() + position * half, *s = sine.data() + position * half;
    for (int64_t i = 0; i < half; ++i) {
      const C u = x[i], v = x[i + half];
      y[i] = u * c[i] - v * s[i];
      y[i + half] = v * c[i] + u * s[i];
    }
  }

  // Pairs (2 i, 2 i + 1).
  void rotate_neighbours(const C* x, C* y, int64_t position) const {
    const C *c = cosine.data() + position * half, *s = sine.data() + position * half;
    for (int64_t i = 0; i < half; ++i) {
      const C u = x[2 * i], v = x[2 * i + 1];
      y[2 * i] = u * c[i] - v * s[i];
      y[2 * i + 1] = v * c[i] + u * s[i];
    }
  }
};

// direction: 1 forward, -1 back.
Tensor rotate(const Tensor& x, double theta, int64_t offset, bool interleaved, double direction) {
  const Tensor y = Tensor::empty(x.shape(), x.dtype());
  if (x.numel() == 0) return y;
  const int64_t channels = x.size(-1), positions = x.size(-2);
  visit_floating("rotary_embedding", x.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    using C = compute_t<T>;
    const Rotation<C> rotation(positions, channels, theta, offset, direction);
    const Elements<T> in(x), out(y);
    parallel_for(in.rows(), rows_per_chunk(channels), [&](int64_t begin, int64_t end) {
      const auto buffer = scratch<C>(channels), result_buffer = scratch<C>(channels);
      for (int64_t row = begin; row < end; ++row) {
        C* result = out.target(row * channels, channels, result_buffer.get());
        const C* values = in.read(row * channels, channels, buffer.get());
        if (interleaved)
          rotation.rotate_neighbours(values, result, row % positions);
        else
          rotation.rotate_halves(values, result, row % positions);
        out.write(row * channels, channels, result);
      }
    });
  });
  return y;
}

}  // namespace
}  // namespace cpu

namespace cuda {  // rotary.cu

Tensor rotate(const Tensor& x, double theta, int64_t offset, bool interleaved, double direction);

}  // namespace cuda

namespace {

void check(const Tensor& x, double theta) {
  TENDRIL_CHECK(is_floating(x.dtype()), "[rotary_embedding] needs a floating-point tensor; got ",
                x.dtype(), "; cast it with to(x, f32)");
  TENDRIL_CHECK(x.rank() >= 2, "[rotary_embedding] needs shape (..., T, D); got ", x.shape(),
                "; add the missing axis");
  TENDRIL_CHECK(x.size(-1) % 2 == 0, "[rotary_embedding] turns pairs of channels; got ", x.size(-1),
                " channels in ", x.shape(), "; the last axis must be even");
  TENDRIL_CHECK(theta > 0.0, "[rotary_embedding] theta must be positive; got ", theta,
                "; 10000 is usual");
}

}  // namespace

Tensor rotary_embedding(const Tensor& x, double theta, int64_t offset, bool interleaved) {
  check(x, theta);
  return TENDRIL_ON_DEVICE(x, rotate(x, theta, offset, interleaved, 1.0));
}

Tensor rotary_embedding_backward(const Tensor& g, double theta, int64_t offset, bool interleaved) {
  check(g, theta);
  return TENDRIL_ON_DEVICE(g, rotate(g, theta, offset, interleaved, -1.0));
}

}  // namespace tendril::ops
