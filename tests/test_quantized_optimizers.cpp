// AdamW and Lion with states in 8 bits.
#include <doctest/doctest.h>
#include <tendril/autograd/functions.h>
#include <tendril/autograd/tape.h>
#include <tendril/core/crc32c.h>
#include <tendril/core/creation.h>
#include <tendril/core/ops/quantize_blockwise.h>
#include <tendril/core/threads.h>
#include <tendril/optim/adamw.h>
#include <tendril/optim/adamw_8bit.h>
#include <tendril/optim/lion_8bit.h>

#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "test_tools.h"

using namespace tendril;
using namespace tendril::testing;
using ops::CodeMap;

namespace {

using Make = std::function<std::unique_ptr<optim::Optimizer>(const std::vector<NamedTensor>&)>;

Make adamw_8bit(const optim::AdamW8bitOptions& options = {}) {
  return [=](const auto& list) { return std::make_unique<optim::AdamW8bit>(list, options); };
}
Make lion_8bit(const optim::Lion8bitOptions& options = {}) {
  return [=](const auto& list) { return std::make_unique<optim::Lion8bit>(list, options); };
}

int64_t bytes_of(const StateDict& state) {
  int64_t bytes = 0;
  for (const auto& [name, tensor] : state)
    if (!name.ends_with(".step")) bytes += tensor.nbytes();
  return bytes;
}

Tensor normal(const Shape& shape, uint64_t seed) {
  return randn(shape, f32, RandomKey{.seed = seed});
}

void advance(optim::Optimizer& optimizer, Tensor& p, uint64_t from, uint64_t until) {
  for (uint64_t step = from; step < until; ++step) {
    p.set_grad(to(normal(p.shape(), 100 + step), p.dtype()));
    optimizer.step();
  }
}

// The loss sum(a (x - 1)^2) / 2 with curvatures a in [0.1, 1] after 200 steps from 0 with noisy
// gradients, as training has them. (Without noise the rounding of v to the nearest code swallows
// its slow changes, and the run lags behind by some percent, whoever implements the method.)
double final_quadratic_loss(const Make& make) {
  Tensor x = zeros({8192}).requires_grad_();
  const Tensor a = rand({8192}, f32, RandomKey{.seed = 7}) * 0.9 + 0.1;
  const auto optimizer = make({{"x", x}});
  const auto loss = [&] { return sum(a * square(x - 1.0)) / 2.0; };
  for (uint64_t i = 0; i < 200; ++i) {
    optimizer->zero_grad();
    loss().backward();
    x.set_grad(x.grad() + normal({8192}, 1000 + i) * 0.5);
    optimizer->step();
  }
  const NoGradGuard no_grad;
  return loss().item<double>();
}

}  // namespace

TEST_SUITE("quantized_optimizers") {
  TEST_CASE("steps have the same bits on every instruction set and for any number of threads") {
    // Of numbers that need no random generator. This test runs on all instruction sets; the sums
    // were taken on one.
    const auto checksum_of = [](const Make& make, int threads) {
      const int before = num_threads();
      set_num_threads(threads);
      const auto pattern = [](uint32_t salt) {
        std::vector<float> values(100'003);  // the last block is a part of one
        for (uint32_t i = 0; i < values.size(); ++i) {
          const uint32_t hash = (i + salt) * 2654435761u;
          const float size = std::ldexp(1.0f, -static_cast<int>(hash % 23u));
          values[i] = (static_cast<float>(hash >> 8) * 0x1p-24f - 0.5f) * size;
        }
        return Tensor::from(values, {static_cast<int64_t>(values.size())});
      };
      Tensor p = pattern(1).requires_grad_();
      const auto optimizer = make({{"p", p}});
      for (uint32_t step = 0; step < 5; ++step) {
        p.set_grad(pattern(1000 + step));
        optimizer->step();
      }
      set_num_threads(before);
      uint32_t sum = crc32c(p.data<float>(), static_cast<size_t>(p.nbytes()));
      for (const auto& [name, tensor] : optimizer->state_dict())
        if (tensor.dtype() == u8)
          sum = crc32c(tensor.data<uint8_t>(), static_cast<size_t>(tensor.nbytes()), sum);
      return sum;
    };
    for (const int threads : {1, 3}) {
      CHECK(checksum_of(adamw_8bit({.lr = 1e-2}), threads) == 1595872003u);
      CHECK(checksum_of(lion_8bit({.lr = 1e-2}), threads) == 3403876001u);
    }
  }

  TEST_CASE("state takes two bytes per parameter, and two scales per 256") {
    Tensor p = normal({512, 512}, 1).requires_grad_();
    const auto adamw = adamw_8bit()({{"p", p}}), lion = lion_8bit()({{"p", p}});
    advance(*adamw, p, 0, 1);
    advance(*lion, p, 1, 2);
    const int64_t n = p.numel();
    CHECK(bytes_of(adamw->state_dict()) == n * 2 + 2 * 4 * n / 256);
    CHECK(bytes_of(adamw->state_dict()) <= n * 21 / 10);
    CHECK(bytes_of(lion->state_dict()) == n + 4 * n / 256);
    CHECK(adamw->state_dict().at("p.exp_avg.codes").dtype() == u8);
    CHECK(adamw->state_dict().at("p.exp_avg_sq.absmax").shape() == Shape{1024});
  }

  TEST_CASE("small parameters, chosen ones and f64 ones keep wide states") {
    Tensor big = normal({64, 64}, 1).requires_grad_(), small = normal({4095}, 2).requires_grad_();
    Tensor embedding = normal({128, 64}, 3).requires_grad_();
    Tensor wide = to(normal({64, 64}, 4), f64).requires_grad_();
    const auto optimizer = adamw_8bit(
        {.quantization = {.keep_32bit = [](const std::string& name) {
           return name == "embedding";
         }}})({{"big", big}, {"small", small}, {"embedding", embedding}, {"wide", wide}});
    for (Tensor* p : {&big, &small, &embedding, &wide}) p->set_grad(ones(p->shape(), p->dtype()));
    optimizer->step();
    const StateDict state = optimizer->state_dict();
    CHECK(state.count("big.exp_avg.codes") == 1);
    CHECK(state.count("big.exp_avg") == 0);
    CHECK(state.at("small.exp_avg").dtype() == f32);
    CHECK(state.at("embedding.exp_avg_sq").dtype() == f32);
    CHECK(state.at("wide.exp_avg").dtype() == f64);
  }

  TEST_CASE("with wide states it is AdamW, but for the order of the decay") {
    Tensor p = normal({50, 50}, 1).requires_grad_(), q = clone(p.detach()).requires_grad_();
    const auto eight = adamw_8bit({.lr = 0.01, .weight_decay = 0.0})({{"p", p}});
    optim::AdamW reference({NamedTensor{"q", q}}, {.lr = 0.01, .weight_decay = 0.0});
    advance(*eight, p, 0, 50);
    advance(reference, q, 0, 50);
    const std::vector<float> a = p.to_vector<float>(), b = q.to_vector<float>();
    for (size_t i = 0; i < a.size(); ++i) CHECK(std::abs(a[i] - b[i]) <= 2e-6f);

    // By hand: the first step has size lr, then a tenth of what is left decays.
    Tensor one = ones({1}, f64).requires_grad_();
    one.set_grad(full({1}, 3.0, f64));
    adamw_8bit({.lr = 0.5, .eps = 0.0, .weight_decay = 0.2})({{"one", one}})->step();
    CHECK(one.item<double>() == doctest::Approx(0.5 * 0.9).epsilon(1e-12));
  }

  TEST_CASE("a step follows the formula from the dequantised state") {
    const double b1 = 0.9, b2 = 0.99, lr = 0.01, eps = 1e-6, decay = 0.1;
    Tensor p = normal({5000}, 1).requires_grad_();
    const auto optimizer = adamw_8bit(
        {.lr = lr, .beta1 = b1, .beta2 = b2, .eps = eps, .weight_decay = decay})({{"p", p}});
    advance(*optimizer, p, 0, 5);
    const auto moments = [&](const char* name, CodeMap map) {
      const StateDict state = optimizer->state_dict();
      const std::string key = std::string("p.") + name;
      return ops::dequantize_blockwise({state.at(key + ".codes"), state.at(key + ".absmax")}, map)
          .to_vector<double>();
    };
    const auto m = moments("exp_avg", CodeMap::with_sign);
    const auto v = moments("exp_avg_sq", CodeMap::without_sign);
    const auto before = p.to_vector<double>(), g = normal({5000}, 105).to_vector<double>();
    advance(*optimizer, p, 5, 6);
    const auto after = p.to_vector<double>();
    const auto next_m = moments("exp_avg", CodeMap::with_sign);
    const auto next_v = moments("exp_avg_sq", CodeMap::without_sign);
    const StateDict state = optimizer->state_dict();
    const auto scale_m = state.at("p.exp_avg.absmax").to_vector<double>();
    const auto scale_v = state.at("p.exp_avg_sq.absmax").to_vector<double>();
    for (size_t i = 0; i < m.size(); ++i) {
      const double mean = b1 * m[i] + (1 - b1) * g[i], square = b2 * v[i] + (1 - b2) * g[i] * g[i];
      const double c1 = 1 - std::pow(b1, 6), c2 = 1 - std::pow(b2, 6);
      const double stepped = before[i] - lr * (mean / c1) / (std::sqrt(square / c2) + eps);
      CHECK(after[i] == doctest::Approx(stepped * (1 - lr * decay)).epsilon(2e-6));
      // No code is further off than half an interval of the uppermost decade.
      CHECK(std::abs(next_m[i] - mean) <= 0.9 / 128 * scale_m[i / 256] + 1e-6);
      CHECK(std::abs(next_v[i] - square) <= 0.9 / 256 * scale_v[i / 256] + 1e-6);
    }
  }

  TEST_CASE("Lion, by hand") {
    // Equal elements are their block's largest and lose nothing while they are positive.
    Tensor p = ones({4096}).requires_grad_();
    const auto optimizer = lion_8bit({.lr = 0.1, .weight_decay = 0.01})({{"p", p}});
    const double gradients[] = {0.5, -0.25, -0.25}, means[] = {0.005, 0.00245, -0.0000745};
    const double values[] = {0.899, 0.998101, 1.097102899};
    for (int step = 0; step < 3; ++step) {
      p.set_grad(full({4096}, gradients[step]));
      optimizer->step();
      CHECK(p.to_vector<float>()[4095] == doctest::Approx(values[step]).epsilon(1e-6));
      const StateDict state = optimizer->state_dict();
      const Tensor mean = ops::dequantize_blockwise(
          {state.at("p.exp_avg.codes"), state.at("p.exp_avg.absmax")}, CodeMap::with_sign);
      // There is no code -1: the negative one shrinks by 0.7 %.
      const double expected = means[step] * (step == 2 ? 0.99296875 : 1.0);
      CHECK(mean.to_vector<double>()[0] == doctest::Approx(expected).epsilon(1e-4));
    }
  }

  TEST_CASE("200 steps on a quadratic end within 1 % of f32 AdamW") {
    const double exact = final_quadratic_loss([&](const auto& list) {
      return std::make_unique<optim::AdamW>(list,
                                            optim::AdamWOptions{.lr = 0.01, .weight_decay = 0.0});
    });
    const double eight = final_quadratic_loss(adamw_8bit({.lr = 0.01, .weight_decay = 0.0}));
    const double start = 8192 * 0.55 / 2;
    CHECK(exact < 0.1 * start);  // it went somewhere
    CHECK(eight != exact);
    CHECK(std::abs(eight - exact) <= 0.01 * exact);
  }

  TEST_CASE("the same bits on any number of threads and for any layout of the gradient") {
    const auto run = [&](const Make& make, int threads, bool strided) {
      const int before = num_threads();
      set_num_threads(threads);
      Tensor p = normal({700, 101}, 1).requires_grad_();  // several chunks and half a block
      const auto optimizer = make({{"p", p}});
      for (uint64_t step = 0; step < 3; ++step) {
        const Tensor g = normal({700, 101}, 50 + step);
        p.set_grad(strided ? transpose(contiguous(transpose(g))) : g);
        optimizer->step();
      }
      set_num_threads(before);
      return p.to_vector<float>();
    };
    for (const Make& make : {adamw_8bit(), lion_8bit()}) {
      const std::vector<float> expected = run(make, 1, false);
      CHECK(run(make, 2, false) == expected);
      CHECK(run(make, 3, true) == expected);
    }
  }

  TEST_CASE("a state that was saved and loaded continues to the bit") {
    for (const bool stochastic : {false, true})
      for (const DType dtype : {f32, bf16})
        for (const Make& make : {adamw_8bit({.stochastic_rounding = stochastic}),
                                 lion_8bit({.stochastic_rounding = stochastic})}) {
          Tensor p = to(normal({100, 77}, 1), dtype).requires_grad_();
          const auto whole = make({{"p", p}});
          advance(*whole, p, 0, 5);
          Tensor q = clone(p.detach()).requires_grad_();
          const auto resumed = make({{"p", q}});
          StateDict saved;
          for (const auto& [name, tensor] : whole->state_dict()) saved[name] = clone(tensor);
          CHECK(saved.count("p.master") == (dtype == bf16 && !stochastic ? 1 : 0));
          resumed->load_state_dict(saved);
          advance(*whole, p, 5, 10);
          advance(*resumed, q, 5, 10);
          CHECK(p.to_vector<float>() == q.to_vector<float>());
          const StateDict one = whole->state_dict(), two = resumed->state_dict();
          REQUIRE(one.size() == two.size());
          for (const auto& [name, tensor] : one)
            CHECK(two.at(name).to_vector<double>() == tensor.to_vector<double>());
        }
  }

  TEST_CASE("a state of other codes or shapes is refused") {
    Tensor p = normal({64, 64}, 1).requires_grad_();
    const auto optimizer = adamw_8bit()({{"p", p}});
    advance(*optimizer, p, 0, 1);
    const auto refuse = [&](const std::string& name, const Tensor& tensor) {
      StateDict state = optimizer->state_dict();
      state[name] = tensor;
      return message_of([&] { optimizer->load_state_dict(state); });
    };
    CHECK(contains(refuse("p.exp_avg.codes", zeros({64, 64})), "must be u8"));
    CHECK(contains(refuse("p.exp_avg.codes", zeros({64, 63}, u8)), "shape"));
    CHECK(contains(refuse("p.exp_avg_sq.absmax", zeros({17})), "shape"));
    CHECK(refuse("p.exp_avg_sq.absmax", ones({16})) == "");
  }

  TEST_CASE("16-bit parameters move as their f32 masters do") {
    Tensor narrow = to(normal({64, 80}, 1), bf16).requires_grad_();
    Tensor wide = to(narrow.detach(), f32).requires_grad_();
    const auto first = adamw_8bit()({{"p", narrow}}), second = adamw_8bit()({{"p", wide}});
    for (uint64_t step = 0; step < 5; ++step) {
      const Tensor g = to(normal({64, 80}, step), bf16);
      narrow.set_grad(g);
      wide.set_grad(to(g, f32));
      first->step();
      second->step();
    }
    CHECK(first->state_dict().at("p.master").to_vector<float>() == wide.to_vector<float>());
    CHECK(narrow.to_vector<float>() == to(wide.detach(), bf16).to_vector<float>());
  }

  TEST_CASE("gradients that are zero, not finite or huge leave no trace in other elements") {
    const float inf = std::numeric_limits<float>::infinity();
    for (const Make& make : {adamw_8bit({.weight_decay = 0.0}), lion_8bit()}) {
      Tensor p = ones({4096}).requires_grad_();
      const auto optimizer = make({{"p", p}});
      p.set_grad(zeros({4096}));
      optimizer->step();
      CHECK(p.to_vector<float>() == std::vector<float>(4096, 1.0f));

      std::vector<float> g(4096, 0.5f);
      g[3] = inf, g[300] = std::nanf(""), g[4000] = -inf;
      p.set_grad(Tensor::from(g, {4096}));
      optimizer->step();
      const std::vector<float> values = p.to_vector<float>();
      for (size_t i = 0; i < values.size(); ++i)
        CHECK((std::isfinite(g[i]) ? values[i] < 1.0f : values[i] == 1.0f));
      const StateDict state = optimizer->state_dict();
      CHECK(state.at("p.exp_avg.codes").to_vector<int64_t>()[300] == 127);
      for (const float absmax : state.at("p.exp_avg.absmax").to_vector<float>())
        CHECK((std::isfinite(absmax) && absmax > 0.0f));

      p.set_grad(full({4096}, 0.5));
      optimizer->step();
      CHECK(p.to_vector<float>()[300] < 1.0f);
    }
    Tensor p = ones({4096}).requires_grad_();
    const auto optimizer = adamw_8bit()({{"p", p}});
    p.set_grad(full({4096}, 1e30));  // its square is too large for f32
    optimizer->step();
    CHECK(p.to_vector<float>() == std::vector<float>(4096, 1.0f));
  }

  TEST_CASE("a rare element beside a frequent one does not take off") {
    // v / absmax of the second element falls far below the smallest code.
    Tensor p = zeros({4096}).requires_grad_();
    const auto optimizer = adamw_8bit({.lr = 1e-3, .weight_decay = 0.0})({{"p", p}});
    std::vector<float> g(4096, 0.0f);
    for (int step = 0; step < 20; ++step) {
      g[0] = 100.0f, g[1] = step == 0 ? 1e-3f : 0.0f;
      p.set_grad(Tensor::from(g, {4096}));
      optimizer->step();
    }
    CHECK(std::abs(p.to_vector<float>()[1]) <= 1e-2f);
  }

  TEST_CASE("options out of range are refused") {
    Tensor p = ones({4}).requires_grad_();
    const auto refuse = [&](const Make& make) { return message_of([&] { make({{"p", p}}); }); };
    CHECK(contains(refuse(adamw_8bit({.beta1 = 1.0})), "[AdamW8bit] betas"));
    CHECK(contains(refuse(adamw_8bit({.eps = -1.0})), "eps"));
    CHECK(contains(refuse(lion_8bit({.weight_decay = -1.0})), "[Lion8bit] weight_decay"));
    CHECK(contains(refuse(lion_8bit({.quantization = {.min_size = -1}})), "min_size"));
  }
}
