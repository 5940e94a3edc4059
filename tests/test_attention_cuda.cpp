// Fused attention on a GPU against the CPU, at the corners of its tiles: both directions, all
// paths. Without a GPU there is nothing to compare.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include <tendril/core/cuda.h>
#include <tendril/core/ops/attention.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/layout.h>
#include <tendril/core/ops/packed_attention.h>
#include <tendril/tendril.h>

#include "cuda_tools.h"

using namespace tendril;

namespace {

struct Case {
  int64_t B, heads, key_heads, queries, keys, D;
  bool causal = true;
  int64_t window = 0;
  double dropout = 0.0, scale = 0.0;
  enum Mask { none, boolean, additive } mask = none;
};

const Case kCases[] = {
    {2, 3, 3, 64, 64, 64},
    {1, 2, 2, 128, 128, 64},
    {2, 2, 2, 200, 200, 64},
    {1, 2, 2, 257, 257, 128},
    {2, 2, 1, 140, 201, 40},
    {1, 2, 2, 150, 130, 104},
    {1, 2, 1, 70, 70, 32},
    {1, 1, 1, 100, 100, 80},
    {1, 4, 2, 150, 150, 64},
    {1, 2, 2, 33, 170, 64},
    {1, 2, 2, 170, 33, 128},  // the first queries see nothing
    {1, 2, 1, 300, 300, 64, true, 30},
    {1, 1, 1, 300, 300, 128, true, 70},
    {1, 2, 2, 90, 140, 64, false},
    {1, 1, 1, 1, 77, 128},
    {1, 1, 1, 77, 1, 64},
    {1, 2, 2, 150, 152, 64, true, 0, 0.3},
    {1, 2, 1, 140, 161, 128, true, 0, 0.25},
    {1, 2, 2, 70, 75, 64, false, 0, 0.0, 0.0, Case::boolean},
    {2, 2, 1, 130, 130, 128, true, 0, 0.2, 0.0, Case::additive},
    {1, 2, 2, 60, 60, 64, true, 0, 0.0, -0.2},  // from here on: the general kernels
    {1, 2, 2, 70, 90, 20, true, 30, 0.2, 0.0, Case::boolean},
    {1, 1, 1, 66, 66, 200},
    {1, 2, 2, 5, 0, 64},
    {1, 2, 2, 0, 5, 64},
    {1, 2, 2, 5, 5, 0},
};

Tensor mask_of(const Case& one) {
  const Shape shape{1, one.heads, one.queries, one.keys};
  if (one.mask == Case::none) return {};
  if (one.mask == Case::additive)
    return randn({one.B, 1, 1, one.keys}, f32, RandomKey{9, 0, Stream::noise});
  std::vector<uint8_t> values;
  for (int64_t i = 0; i < shape.numel(); ++i)  // every third query sees nothing
    values.push_back(i / one.keys % 3 != 0 && i * 7919 % 11 > 2);
  return ops::cast(Tensor::from(values, shape), bool_);
}

// (B, H, T, D) as split_heads makes it of a part of a joint projection.
Tensor heads(const Case& one, int64_t count, int64_t length, uint64_t seed, DType dtype) {
  const Tensor joint =
      randn({one.B, length, 3 * count, one.D}, f64, RandomKey{seed, 0, Stream::noise});
  return ops::transpose(ops::narrow(ops::cast(joint, dtype), 2, count, count), 1, 2);
}

struct Run {
  ops::AttentionResult result;
  ops::AttentionGradients gradients;
  std::vector<Tensor> all() const {
    return {result.output, result.lse, gradients.q, gradients.k, gradients.v};
  }
};

Run run(const Case& one, DType dtype, DType compute, Device device) {
  // Rounded to `dtype` first, so that every run has the same inputs.
  const auto input = [&](int64_t count, int64_t length, uint64_t seed) {
    return to(ops::cast(heads(one, count, length, seed, dtype), compute), device);
  };
  const Tensor q = input(one.heads, one.queries, 1), k = input(one.key_heads, one.keys, 2),
               v = input(one.key_heads, one.keys, 3), g = input(one.heads, one.queries, 4);
  ops::AttentionSettings settings;
  settings.causal = one.causal;
  settings.window = one.window;
  settings.scale = one.scale;
  settings.dropout = one.dropout;
  settings.key = {7, 3, Stream::model};
  if (const Tensor mask = mask_of(one); mask.defined()) settings.mask = to(mask, device);
  const ops::AttentionResult result = ops::attention(q, k, v, settings);
  return {result, ops::attention_backward(g, q, k, v, result, settings)};
}

// The largest difference, relative to the largest number.
double difference(const Tensor& got, const Tensor& expected) {
  const std::vector<double> x = to(got, Device::cpu()).to_vector<double>(),
                            y = expected.to_vector<double>();
  REQUIRE(got.shape() == expected.shape());
  double worst = 0.0, scale = 1.0;
  for (double value : y)
    if (std::isfinite(value)) scale = std::max(scale, std::fabs(value));
  for (size_t i = 0; i < x.size(); ++i)
    if (x[i] != y[i]) worst = std::max(worst, std::fabs(x[i] - y[i]) / scale);
  return std::isnan(worst) ? INFINITY : worst;
}

bool same_bits(const Tensor& a, const Tensor& b) {
  const Tensor x = ops::contiguous(to(a, Device::cpu())), y = ops::contiguous(to(b, Device::cpu()));
  return std::memcmp(x.raw_data(), y.raw_data(), static_cast<size_t>(x.nbytes())) == 0;
}

// Packed sequences: these lengths of queries and of keys.
struct Packed {
  std::vector<int64_t> queries, keys;
  int64_t D = 64;
  DType dtype = bf16;
  ops::AttentionSettings settings = {};
  int64_t B = 2, groups = 2;  // groups of two query heads and a key head
};

std::vector<int64_t> starts_of(const std::vector<int64_t>& lengths) {
  std::vector<int64_t> starts{0};
  for (const int64_t length : lengths) starts.push_back(starts.back() + length);
  return starts;
}

// Every head's own mask, of all queries and keys.
Tensor packed_mask(int64_t heads, int64_t queries, int64_t keys) {
  return randn({1, heads, queries, keys}, f32, RandomKey{5, 0, Stream::noise});
}

struct PackedInputs {
  Tensor q, k, v, g;
};

PackedInputs packed_inputs(const Packed& c, DType compute, Device device) {
  const ops::PackedSequences sequences{starts_of(c.queries), starts_of(c.keys)};
  const Case one{c.B, 2 * c.groups, c.groups, sequences.q.back(), sequences.k.back(), c.D};
  const auto input = [&](int64_t count, int64_t length, uint64_t seed) {
    return to(ops::cast(heads(one, count, length, seed, c.dtype), compute), device);
  };
  return {input(one.heads, one.queries, 1), input(one.key_heads, one.keys, 2),
          input(one.key_heads, one.keys, 3), input(one.heads, one.queries, 4)};
}

Run run_packed(const Packed& c, DType compute, Device device) {
  const ops::PackedSequences sequences{starts_of(c.queries), starts_of(c.keys)};
  const auto [q, k, v, g] = packed_inputs(c, compute, device);
  ops::AttentionSettings settings = c.settings;
  if (settings.mask.defined()) settings.mask = to(settings.mask, device);
  const ops::AttentionResult result = ops::packed_attention(q, k, v, settings, sequences);
  return {result, ops::packed_attention_backward(g, q, k, v, result, settings, sequences)};
}

// A call for sequence i alone, which has queries from t and keys from s on, on a GPU.
Run run_sequence(const Packed& c, size_t i, int64_t t, int64_t s) {
  const PackedInputs all = packed_inputs(c, c.dtype, Device::cuda());
  const auto queries = [&](const Tensor& x) { return ops::narrow(x, 2, t, c.queries[i]); };
  const auto keys = [&](const Tensor& x) { return ops::narrow(x, 2, s, c.keys[i]); };
  const Tensor q = queries(all.q), k = keys(all.k), v = keys(all.v), g = queries(all.g);
  ops::AttentionSettings settings = c.settings;
  settings.key.position += i;
  if (settings.mask.defined())
    settings.mask = to(ops::narrow(queries(settings.mask), 3, s, c.keys[i]), Device::cuda());
  const ops::AttentionResult result = ops::attention(q, k, v, settings);
  return {result, ops::attention_backward(g, q, k, v, result, settings)};
}

}  // namespace

TEST_SUITE("attention on CUDA") {
  TEST_CASE("packed sequences equal the CPU's, whatever is masked and dropped") {
    if (testing::skipped_without_gpu()) return;
    const std::vector<int64_t> lengths{70, 130, 1, 0, 33}, fewer{20, 131, 0, 5, 64};
    const ops::AttentionSettings causal{.causal = true}, window{.causal = true, .window = 20},
        drops{.causal = true, .dropout = 0.3, .key = {7, 3, Stream::model}},
        masked{.dropout = 0.2, .key = {7, 3, Stream::model}, .mask = packed_mask(4, 234, 220)};
    const Packed cases[] = {
        {lengths, lengths, 64, bf16, causal}, {lengths, lengths, 128, f16, window},
        {lengths, fewer, 32, bf16, {}},       {lengths, lengths, 64, bf16, drops},
        {lengths, fewer, 96, f16, masked},    {lengths, lengths, 20, f32, causal},
        {lengths, fewer, 64, f32, masked},    {lengths, fewer, 8, f64, drops}};
    for (const Packed& c : cases) {
      CAPTURE(c.dtype);
      CAPTURE(c.D);
      const double tolerance = c.dtype == f64   ? 1e-12
                               : c.dtype == f32 ? 1e-5
                               : c.dtype == f16 ? 0x1p-10
                                                : 0x1p-7;
      const std::vector<Tensor> expected =
          run_packed(c, accumulate_dtype(c.dtype), Device::cpu()).all();
      const std::vector<Tensor> got = run_packed(c, c.dtype, testing::gpu_under_test()).all();
      for (size_t i = 0; i < got.size(); ++i) {
        CAPTURE(i);
        CHECK(difference(got[i], expected[i]) <= tolerance * (i < 2 ? 1 : 2));
      }
    }
  }

  TEST_CASE("they are the bits of a call for each sequence, where the same kernels serve both") {
    if (testing::skipped_without_gpu()) return;
    const std::vector<int64_t> lengths{70, 130, 1, 0, 33}, fewer{20, 131, 0, 5, 64};
    const ops::AttentionSettings masked{
        .dropout = 0.2, .key = {7, 3, Stream::model}, .mask = packed_mask(4, 234, 220)};
    for (const Packed& c :
         {Packed{lengths, lengths, 32, bf16, {.causal = true}},
          Packed{lengths, fewer, 32, bf16, masked}, Packed{lengths, fewer, 64, f32, masked}}) {
      CAPTURE(c.dtype);
      const std::vector<Tensor> packed = run_packed(c, c.dtype, Device::cuda()).all();
      int64_t t = 0, s = 0;
      for (size_t i = 0; i < c.queries.size(); ++i) {
        CAPTURE(i);
        const std::vector<Tensor> own = run_sequence(c, i, t, s).all();
        for (size_t part = 0; part < own.size(); ++part) {
          CAPTURE(part);
          const bool of_keys = part >= 3;
          CHECK(same_bits(own[part], ops::narrow(packed[part], 2, of_keys ? s : t,
                                                 of_keys ? c.keys[i] : c.queries[i])));
        }
        t += c.queries[i], s += c.keys[i];
      }
    }
  }

  TEST_CASE("so are more of them than fit in one launch") {
    if (testing::skipped_without_gpu()) return;
    std::vector<int64_t> lengths;
    for (int64_t i = 0; i < 300; ++i) lengths.push_back(i % 4);
    const Packed c{lengths, lengths, 32, bf16, {.causal = true}, 1, 1};
    const std::vector<Tensor> expected = run_packed(c, f32, Device::cpu()).all();
    const std::vector<Tensor> got = run_packed(c, bf16, testing::gpu_under_test()).all();
    for (size_t i = 0; i < got.size(); ++i)
      CHECK(difference(got[i], expected[i]) <= 0x1p-7 * (i < 2 ? 1 : 2));
  }

  TEST_CASE("values and gradients equal the CPU's, the same bits on every run") {
    if (testing::skipped_without_gpu()) return;
    for (const Case& one : kCases)
      for (const auto& [dtype, tolerance] : {std::pair{bf16, 0x1p-7}, std::pair{f16, 0x1p-10},
                                             std::pair{f32, 1e-5}, std::pair{f64, 1e-12}}) {
        const DType exact = accumulate_dtype(dtype);
        CAPTURE(dtype);
        CAPTURE(one.queries);
        CAPTURE(one.keys);
        CAPTURE(one.D);
        CAPTURE(one.dropout);
        const std::vector<Tensor> expected = run(one, dtype, exact, Device::cpu()).all();
        const std::vector<Tensor> got = run(one, dtype, dtype, testing::gpu_under_test()).all();
        std::vector<Tensor> again;  // the emulated GPU's threads always take turns in one order
        if (!testing::gpu_is_emulated())
          again = run(one, dtype, dtype, testing::gpu_under_test()).all();
        for (size_t i = 0; i < got.size(); ++i) {
          CAPTURE(i);
          CHECK(got[i].dtype() == (i == 1 ? exact : dtype));
          CHECK(difference(got[i], expected[i]) <= tolerance * (i < 2 ? 1 : 2));
          if (!again.empty()) CHECK(same_bits(got[i], again[i]));
        }
      }
  }

  TEST_CASE("heads are joined without a copy, and so are the gradients of a joint projection") {
    if (testing::skipped_without_gpu()) return;
    const Case one{2, 3, 3, 40, 40, 64};
    const Run got = run(one, bf16, bf16, testing::gpu_under_test());
    CHECK(ops::transpose(got.result.output, 1, 2).is_contiguous());
    const auto rows = [&](const Tensor& x) {
      return ops::reshape(ops::transpose(x, 1, 2), {2, 40, 3 * 64});
    };
    const std::vector<Tensor> pieces{rows(got.gradients.q), rows(got.gradients.k),
                                     rows(got.gradients.v)};
    const std::vector<int64_t> sizes(3, 3 * 64);
    const Tensor joined = ops::split_backward(pieces, sizes, {2, 40, 9 * 64}, -1);
    CHECK(joined.storage() == got.gradients.q.storage());
    CHECK(joined.is_contiguous());
  }

  TEST_CASE("tensors that repeat themselves give what copies of them give") {
    if (testing::skipped_without_gpu()) return;
    const auto input = [](const Shape& shape, uint64_t seed) {
      return to(to(randn(shape, f32, RandomKey{seed, 0, Stream::noise}), bf16),
                testing::gpu_under_test());
    };
    const Tensor q = input({2, 3, 130, 64}, 1), g = input({1, 1, 130, 64}, 4);
    const Tensor k = input({1, 1, 130, 64}, 2), v = input({2, 1, 130, 64}, 3);
    ops::AttentionSettings settings;
    settings.causal = true;
    const auto all = [&](const Tensor& keys, const Tensor& values, const Tensor& upstream) {
      const ops::AttentionResult result = ops::attention(q, keys, values, settings);
      return Run{result, ops::attention_backward(upstream, q, keys, values, result, settings)};
    };
    const Shape shape{2, 3, 130, 64};
    const Tensor ks = ops::expand(k, shape), vs = ops::expand(v, shape), gs = ops::expand(g, shape);
    const std::vector<Tensor> repeated = all(ks, vs, gs).all(),
                              copied = all(clone(ks), clone(vs), clone(gs)).all();
    for (size_t i = 0; i < repeated.size(); ++i)
      CHECK(difference(repeated[i], to(copied[i], Device::cpu())) < 2e-2);
  }

  TEST_CASE("NaN in a query reaches its output and the gradients") {
    if (testing::skipped_without_gpu()) return;
    for (const DType dtype : {bf16, f32}) {
      Tensor q = ones({1, 1, 200, 64});
      q.data<float>()[150 * 64] = std::nanf("");
      q = to(to(q, dtype), testing::gpu_under_test());
      const Tensor k = to(ones({1, 1, 200, 64}, dtype), testing::gpu_under_test());
      ops::AttentionSettings settings;
      settings.causal = true;
      const ops::AttentionResult result = ops::attention(q, k, k, settings);
      const ops::AttentionGradients gradients =
          ops::attention_backward(k, q, k, k, result, settings);
      const auto host = [](const Tensor& x) { return to(x, Device::cpu()).to_vector<double>(); };
      CHECK(std::isnan(host(result.output)[150 * 64]));
      CHECK(host(result.output)[149 * 64] == doctest::Approx(1.0));
      CHECK(host(result.output)[151 * 64] == doctest::Approx(1.0));
      CHECK(std::isnan(host(gradients.q)[150 * 64]));
      CHECK(std::isnan(host(gradients.k)[0]));
      CHECK(std::isnan(host(gradients.v)[0]));
    }
  }
}
