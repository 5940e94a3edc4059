// Numbers in 8 bits and rounding at random on a GPU: the CPU's results, to the bit.
#include <doctest/doctest.h>
#include <tendril/autograd/functions.h>
#include <tendril/core/creation.h>
#include <tendril/core/ops/optimizer_step.h>
#include <tendril/core/ops/quantize_blockwise.h>
#include <tendril/optim/adamw.h>
#include <tendril/optim/adamw_8bit.h>
#include <tendril/optim/lion_8bit.h>
#include <tendril/optim/sgd.h>

#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "cuda_tools.h"
#include "op_harness.h"
#include "test_tools.h"

using namespace tendril;
using namespace tendril::testing;
using ops::CodeMap;

namespace {

const Device kGpu = Device::cuda();

Tensor drawn(const Shape& shape, uint64_t position, DType dtype = f32) {
  return to(randn(shape, f32, RandomKey{.seed = 4, .position = position}), dtype);
}

// Magnitudes from about 1e-12 to 1e3 in each block, and zeros.
Tensor wide(int64_t size, bool has_sign) {
  const Tensor powers = exp(drawn({size}, 0) * 6.0);
  Tensor x = powers * drawn({size}, 1) * clamp_min(drawn({size}, 3), 0.0);
  if (!has_sign) x = abs(x);
  return x.detach();
}

// Steps of an optimizer whose parameters begin with the same numbers on both devices.
template <class Optimizer, class Options>
struct Pair {
  Tensor parameters[2];
  std::unique_ptr<Optimizer> optimizers[2];

  Pair(const Tensor& start, const Options& options) {
    for (const int i : {0, 1}) {
      parameters[i] = to(start, i == 0 ? Device::cpu() : kGpu).detach();
      if (i == 0) parameters[i] = clone(parameters[i]).detach();
      parameters[i].requires_grad_();
      optimizers[i] =
          std::make_unique<Optimizer>(std::vector<NamedTensor>{{"p", parameters[i]}}, options);
    }
  }
  void step(const Tensor& gradient) {
    for (const int i : {0, 1}) {
      parameters[i].set_grad(to(gradient, parameters[i].device()));
      optimizers[i]->step();
    }
  }
  void check_same_bits() const {
    CHECK(same_bits(parameters[0], parameters[1]));
    const StateDict here = optimizers[0]->state_dict(), there = optimizers[1]->state_dict();
    CHECK(here.size() == there.size());
    for (const auto& [name, tensor] : here) {
      CAPTURE(name);
      CHECK(same_bits(tensor, there.at(name)));
    }
  }
};

const optim::QuantizationOptions kAllQuantized = {.min_size = 0};

}  // namespace

TEST_SUITE("cuda_quantized") {
  TEST_CASE("codes and numbers are the CPU's, in whole blocks and parts, aligned or not") {
    if (skipped_without_gpu()) return;
    for (const CodeMap map : {CodeMap::with_sign, CodeMap::without_sign})
      for (const int64_t size : {0, 1, 255, 256, 257, 5000})
        for (const int64_t skipped : {0, 1}) {
          const Tensor all = wide(size + skipped, map == CodeMap::with_sign);
          const Tensor here = slice(all, 0, skipped, size + skipped);
          const Tensor there = slice(to(all, kGpu), 0, skipped, size + skipped);
          const ops::Quantized a = ops::quantize_blockwise(here, map);
          const ops::Quantized b = ops::quantize_blockwise(there, map);
          CHECK(same_bits(a.codes, b.codes));
          CHECK(same_bits(a.absmax, b.absmax));
          CHECK(same_bits(ops::dequantize_blockwise(a, map), ops::dequantize_blockwise(b, map)));
        }
  }

  TEST_CASE("every code, and the borders on both sides") {
    if (skipped_without_gpu()) return;
    for (const CodeMap map : {CodeMap::with_sign, CodeMap::without_sign}) {
      std::vector<float> values;
      const auto& levels = ops::code_values(map);
      for (size_t i = 0; i + 1 < levels.size(); ++i) {
        const float border = (levels[i] + levels[i + 1]) / 2.0f;
        for (const float x :
             {std::nextafter(border, -2.0f), border, std::nextafter(border, 2.0f)}) {
          if (values.size() % 256 == 0) values.push_back(1.0f);
          values.push_back(map == CodeMap::with_sign ? x : std::abs(x));
        }
      }
      const Tensor x = Tensor::from(values, {static_cast<int64_t>(values.size())});
      CHECK(same_bits(ops::quantize_blockwise(x, map).codes,
                      ops::quantize_blockwise(to(x, kGpu), map).codes));
      std::vector<int64_t> codes(256);
      for (int64_t i = 0; i < 256; ++i) codes[static_cast<size_t>(i)] = i;
      const Tensor all = to(Tensor::from(codes, {256}), u8);
      const Tensor back = ops::dequantize_blockwise(
          {to(all, kGpu), to(Tensor::from<float>({1.0f}, {1}), kGpu)}, map);
      CHECK(back.to_vector<float>() == std::vector<float>(levels.begin(), levels.end()));
    }
  }

  TEST_CASE("numbers that have no code are an Error at the next wait") {
    if (skipped_without_gpu()) return;
    const auto message = [](float bad, CodeMap map) {
      const Tensor x = to(Tensor::from<float>({1.0f, bad}, {2}), kGpu);
      return message_of([&] { ops::quantize_blockwise(x, map).codes.to_vector<int64_t>(); });
    };
    CHECK(contains(message(std::nanf(""), CodeMap::with_sign), "finite"));
    CHECK(contains(message(INFINITY, CodeMap::without_sign), "finite"));
    CHECK(contains(message(-1.0f, CodeMap::without_sign), "no negative number"));
    CHECK(message(-1.0f, CodeMap::with_sign) == "");
  }

  TEST_CASE("8-bit steps are the CPU's to the bit, gradients that are not finite too") {
    if (skipped_without_gpu()) return;
    for (const DType dtype : {f32, bf16, f16})
      for (const int64_t size : {255, 256, 20000}) {
        Pair<optim::AdamW8bit, optim::AdamW8bitOptions> adamw(
            drawn({size}, 2, dtype), {.lr = 0.01, .quantization = kAllQuantized});
        Pair<optim::Lion8bit, optim::Lion8bitOptions> lion(
            drawn({size}, 2, dtype),
            {.lr = 0.01, .weight_decay = 0.1, .quantization = kAllQuantized});
        for (uint64_t step = 0; step < 6; ++step) {
          std::vector<float> values = drawn({size}, 10 + step).to_vector<float>();
          if (step == 3) values[7] = INFINITY;
          if (step == 4) values[200] = std::nanf("");
          const Tensor gradient = to(Tensor::from(values, {size}), dtype);
          adamw.step(gradient);
          lion.step(gradient);
        }
        adamw.check_same_bits();
        lion.check_same_bits();
      }
  }

  TEST_CASE("rounding at random is the CPU's to the bit where the arithmetic is") {
    if (skipped_without_gpu()) return;
    for (const int64_t size : {1, 3, 1027, 20000}) {
      Pair<optim::AdamW8bit, optim::AdamW8bitOptions> adamw(
          drawn({size}, 2, bf16),
          {.lr = 0.01, .quantization = kAllQuantized, .stochastic_rounding = true});
      // The product of a rate that is a power of two is exact, fused with the difference or not.
      Pair<optim::Sgd, optim::SgdOptions> sgd(drawn({size}, 3, bf16),
                                              {.lr = 0x1p-6, .stochastic_rounding = true});
      for (uint64_t step = 0; step < 4; ++step) {
        adamw.step(drawn({size}, 20 + step, bf16));
        sgd.step(drawn({size}, 20 + step, bf16));
      }
      adamw.check_same_bits();
      sgd.check_same_bits();
      CHECK_FALSE(sgd.optimizers[1]->state_dict().contains("p.master"));
    }
  }

  TEST_CASE("AdamW without masters differs from the CPU in few last bits") {
    if (skipped_without_gpu()) return;
    Pair<optim::AdamW, optim::AdamWOptions> pair(drawn({20000}, 2, bf16),
                                                 {.lr = 0.01, .stochastic_rounding = true});
    pair.step(drawn({20000}, 3, bf16));
    const std::vector<double> here = pair.parameters[0].to_vector<double>();
    const std::vector<double> there = pair.parameters[1].to_vector<double>();
    int64_t differences = 0;
    for (size_t i = 0; i < here.size(); ++i) {
      if (here[i] == there[i]) continue;
      ++differences;
      CHECK(std::abs(here[i] - there[i]) <= 0x1p-7 * std::abs(here[i]));
    }
    CHECK(differences <= 20);
    // The random numbers matter: rounding to the nearest gives other weights.
    Pair<optim::AdamW, optim::AdamWOptions> nearest(drawn({20000}, 2, bf16), {.lr = 0.01});
    nearest.step(drawn({20000}, 3, bf16));
    CHECK_FALSE(same_bits(pair.parameters[1], nearest.parameters[1]));
  }
}
