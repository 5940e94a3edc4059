#include <doctest/doctest.h>
#include <tendril/autograd/functions.h>
#include <tendril/autograd/tape.h>
#include <tendril/nn/generate.h>
#include <tendril/nn/models/gpt2.h>
#include <tendril/nn/sampling.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

using namespace tendril;

namespace {

nn::models::Gpt2Config tiny_config() {
  return {.vocab_size = 30,
          .n_positions = 12,
          .n_layer = 2,
          .n_head = 2,
          .n_embd = 8,
          .initializer_range = 0.5};
}

// The definition of generate(), with a whole forward pass per token.
std::vector<int64_t> greedy_reference(nn::models::Gpt2& model, std::vector<int64_t> window,
                                      int64_t count) {
  const NoGradGuard no_grad;
  std::vector<int64_t> result;
  for (int64_t i = 0; i < count; ++i) {
    if (window.size() > 12) window.erase(window.begin(), window.end() - 6);
    const Tensor logits =
        model.forward(Tensor::from(window, {1, static_cast<int64_t>(window.size())}));
    const std::vector<float> last = select(select(logits, 0, 0), 0, -1).to_vector<float>();
    result.push_back(std::max_element(last.begin(), last.end()) - last.begin());
    window.push_back(result.back());
  }
  return result;
}

std::vector<double> frequencies(const std::vector<float>& logits,
                                const nn::SamplingOptions& options) {
  Generator generator(17);
  constexpr int kDraws = 20000;
  std::vector<double> result(logits.size());
  for (int i = 0; i < kDraws; ++i)
    result[static_cast<size_t>(nn::sample_token(logits, options, generator))] += 1.0 / kDraws;
  return result;
}

void check_near(const std::vector<double>& got, const std::vector<double>& expected) {
  REQUIRE(got.size() == expected.size());
  for (size_t i = 0; i < got.size(); ++i) {
    CHECK(std::abs(got[i] - expected[i]) < 0.012);  // above three standard errors
    if (expected[i] == 0.0) CHECK(got[i] == 0.0);
  }
}

}  // namespace

TEST_SUITE("sampling") {
  // probabilities .1 .2 .3 .4
  const std::vector<float> kLogits = {std::log(0.1f), std::log(0.2f), std::log(0.3f),
                                      std::log(0.4f)};

  TEST_CASE("frequencies follow temperature, top-k and top-p") {
    check_near(frequencies(kLogits, {}), {0.1, 0.2, 0.3, 0.4});
    check_near(frequencies(kLogits, {.temperature = 0.5}),
               {1.0 / 30, 4.0 / 30, 9.0 / 30, 16.0 / 30});
    check_near(frequencies(kLogits, {.top_k = 2}), {0, 0, 3.0 / 7, 4.0 / 7});
    check_near(frequencies(kLogits, {.top_k = 9}), {0.1, 0.2, 0.3, 0.4});
    check_near(frequencies(kLogits, {.top_p = 0.65}), {0, 0, 3.0 / 7, 4.0 / 7});
    check_near(frequencies(kLogits, {.top_p = 0.75}), {0, 2.0 / 9, 3.0 / 9, 4.0 / 9});
    check_near(frequencies(kLogits, {.top_p = 1e-9}), {0, 0, 0, 1});
    // two of four equals reach exactly one half
    check_near(frequencies({0, 0, 0, 0}, {.top_p = 0.5}), {0.5, 0.5, 0, 0});
    check_near(frequencies(kLogits, {.top_k = 1}), {0, 0, 0, 1});
    // top-p of what top-k left: 3/7 + 4/7
    check_near(frequencies(kLogits, {.top_k = 2, .top_p = 0.5}), {0, 0, 0, 1});
  }

  TEST_CASE("greedy takes the first of the largest and no random number") {
    Generator generator(1);
    CHECK(nn::sample_token(std::vector<float>{1, 3, 3}, {.temperature = 0}, generator) == 1);
    CHECK(generator.state().position == 0);
    nn::sample_token(kLogits, {}, generator);
    CHECK(generator.state().position == 1);
  }

  TEST_CASE("impossible tokens are never drawn; ties keep the lower index") {
    const float never = -INFINITY;
    check_near(frequencies({never, 0, never, 0, never}, {}), {0, 0.5, 0, 0.5, 0});
    check_near(frequencies({0, 0, 0}, {.top_k = 2}), {0.5, 0.5, 0});
    check_near(frequencies({1e4f, -1e4f}, {.temperature = 1e-3}), {1, 0});
  }

  TEST_CASE("bad options and logits are Errors") {
    Generator generator;
    CHECK_THROWS_AS(nn::sample_token(kLogits, {.temperature = -1}, generator), Error);
    CHECK_THROWS_AS(nn::sample_token(kLogits, {.temperature = NAN}, generator), Error);
    CHECK_THROWS_AS(nn::sample_token(kLogits, {.top_k = -1}, generator), Error);
    CHECK_THROWS_AS(nn::sample_token(kLogits, {.top_p = 0}, generator), Error);
    CHECK_THROWS_AS(nn::sample_token(kLogits, {.top_p = 1.5}, generator), Error);
    CHECK_THROWS_AS(nn::sample_token(std::vector<float>{}, {}, generator), Error);
    CHECK_THROWS_AS(nn::sample_token(std::vector<float>{0, NAN}, {.temperature = 0}, generator),
                    Error);
    CHECK_THROWS_AS(nn::sample_token(std::vector<float>{-INFINITY}, {}, generator), Error);
  }
}

TEST_SUITE("generate") {
  TEST_CASE("with and without cache, also past the last position") {
    manual_seed(3);
    nn::models::Gpt2 model(tiny_config());
    model.eval();
    const std::vector<int64_t> prompt = {4, 9, 2};
    const std::vector<int64_t> expected = greedy_reference(model, prompt, 40);
    CHECK(std::set(expected.begin(), expected.end()).size() > 2);  // not one token for ever
    CHECK(nn::generate(model, prompt, {.max_new_tokens = 40, .temperature = 0}) == expected);
    CHECK(nn::generate(model, prompt,
                       {.max_new_tokens = 40, .temperature = 0, .use_cache = false}) == expected);
    const nn::GenerateOptions sampled = {
        .max_new_tokens = 40, .temperature = 0.8, .top_k = 10, .top_p = 0.9, .seed = 5};
    nn::GenerateOptions uncached = sampled;
    uncached.use_cache = false;
    CHECK(nn::generate(model, prompt, sampled) == nn::generate(model, prompt, uncached));
  }

  TEST_CASE("a prompt longer than the window is cut to its end") {
    manual_seed(3);
    nn::models::Gpt2 model(tiny_config());
    std::vector<int64_t> prompt(30, 1);
    for (size_t i = 18; i < 30; ++i) prompt[i] = static_cast<int64_t>(i) % 7;
    const nn::GenerateOptions options = {.max_new_tokens = 5, .temperature = 0};
    const std::vector<int64_t> end(prompt.end() - 12, prompt.end());
    CHECK(nn::generate(model, prompt, options) == nn::generate(model, end, options));
  }

  TEST_CASE("the seed decides, and no other generator is touched") {
    manual_seed(3);
    nn::models::Gpt2 model(tiny_config());
    const std::vector<int64_t> prompt = {1};
    const Generator::State before = default_generator().state();
    const std::vector<int64_t> a = nn::generate(model, prompt, {.max_new_tokens = 20, .seed = 1});
    CHECK(nn::generate(model, prompt, {.max_new_tokens = 20, .seed = 1}) == a);
    CHECK(nn::generate(model, prompt, {.max_new_tokens = 20, .seed = 2}) != a);
    CHECK(default_generator().state() == before);
    CHECK(a.size() == 20);
  }

  TEST_CASE("eos ends generation, and every token is announced") {
    manual_seed(3);
    nn::models::Gpt2 model(tiny_config());
    const std::vector<int64_t> prompt = {1};
    const std::vector<int64_t> all = nn::generate(model, prompt, {.max_new_tokens = 20, .seed = 1});
    std::vector<int64_t> announced;
    const std::vector<int64_t> some = nn::generate(
        model, prompt,
        {.max_new_tokens = 20, .seed = 1, .eos = all[4], .on_token = [&](int64_t token) {
           announced.push_back(token);
         }});
    const size_t length =
        static_cast<size_t>(std::find(all.begin(), all.end(), all[4]) - all.begin()) + 1;
    CHECK(some ==
          std::vector<int64_t>(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(length)));
    CHECK(announced == some);
    CHECK(nn::generate(model, prompt, {.max_new_tokens = 0}).empty());
  }

  TEST_CASE("modes are restored, also after an Error, and nothing is recorded") {
    nn::models::Gpt2 model(tiny_config());  // in training mode, with dropout
    const auto modes = [&] {
      std::vector<bool> list;
      model.for_each_module(
          [&](const std::string&, nn::Module& part) { list.push_back(part.training()); });
      return list;
    };
    model.for_each_module([](const std::string& name, nn::Module& part) {
      if (name == "transformer.h.0.mlp") part.eval();
    });
    const std::vector<bool> before = modes();
    const std::vector<int64_t> prompt = {1, 2};
    bool recording = true, training = true;
    nn::generate(model, prompt, {.max_new_tokens = 1, .on_token = [&](int64_t) {
                                   recording = grad_enabled();
                                   training = model.training();
                                 }});
    CHECK(!recording);
    CHECK(!training);
    CHECK(grad_enabled());
    CHECK(modes() == before);
    CHECK_THROWS_AS(nn::generate(model, prompt, {.top_p = 7.0}), Error);
    CHECK(grad_enabled());
    CHECK(modes() == before);
  }

  TEST_CASE("bad prompts are Errors") {
    nn::models::Gpt2 model(tiny_config());
    CHECK_THROWS_AS(nn::generate(model, {}), Error);
    CHECK_THROWS_AS(nn::generate(model, std::vector<int64_t>{30}), Error);
    CHECK_THROWS_AS(nn::generate(model, std::vector<int64_t>{-1}), Error);
    CHECK_THROWS_AS(nn::generate(model, std::vector<int64_t>{1}, {.max_new_tokens = -1}), Error);
  }
}
