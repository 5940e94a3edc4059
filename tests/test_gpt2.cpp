#include <doctest/doctest.h>
#include <tendril/autograd/functions.h>
#include <tendril/autograd/tape.h>
#include <tendril/core/safetensors.h>
#include <tendril/nn/models/gpt2.h>
#include <tendril/optim/adamw.h>
#include <tendril/optim/clip.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "test_tools.h"

using namespace tendril;
using namespace tendril::testing;
using nn::models::Gpt2;
using nn::models::Gpt2Config;

namespace {

// No dropout, so that training mode is deterministic.
Gpt2Config tiny_config() {
  return {.vocab_size = 50,
          .n_positions = 16,
          .n_layer = 2,
          .n_head = 2,
          .n_embd = 8,
          .embd_pdrop = 0.0,
          .attn_pdrop = 0.0,
          .resid_pdrop = 0.0};
}

Tensor random_tokens(const Shape& shape, int64_t vocabulary, uint64_t position = 0) {
  return randint(0, vocabulary, shape, i64, RandomKey{9, position, Stream::data});
}

double standard_deviation(const Tensor& x) {
  double squares = 0.0;
  for (const double value : x.to_vector<double>()) squares += value * value;
  return std::sqrt(squares / static_cast<double>(x.numel()));
}

// A fresh folder, removed at the end.
struct TemporaryFolder {
  std::filesystem::path path = std::filesystem::temp_directory_path() /
                               ("tendril_gpt2_" + std::to_string(std::random_device{}()));
  ~TemporaryFolder() { std::filesystem::remove_all(path); }
};

}  // namespace

TEST_SUITE("gpt2") {
  TEST_CASE("parameter counts") {
    CHECK(Gpt2Config{}.parameter_count() == 124439808);
    CHECK(Gpt2Config{.vocab_size = 50304}.parameter_count() == 124475904);
    CHECK(Gpt2Config{.n_layer = 48, .n_head = 25, .n_embd = 1600}.parameter_count() == 1557611200);
    for (const bool tied : {true, false}) {
      Gpt2Config config = tiny_config();
      config.tie_word_embeddings = tied;
      config.n_inner = 20;
      CHECK(Gpt2(config).parameter_count() == config.parameter_count());
    }
  }

  TEST_CASE("names and shapes are Hugging Face's") {
    const auto model = Gpt2({.vocab_size = 11, .n_layer = 2, .n_head = 2, .n_embd = 4});
    const StateDict state = model.state_dict();
    CHECK(state.size() == 2 + 2 * 12 + 2);
    CHECK(state.at("transformer.wte.weight").shape() == Shape{11, 4});
    CHECK(state.at("transformer.wpe.weight").shape() == Shape{1024, 4});
    CHECK(state.at("transformer.h.1.ln_1.weight").shape() == Shape{4});
    CHECK(state.at("transformer.h.1.attn.c_attn.weight").shape() == Shape{4, 12});
    CHECK(state.at("transformer.h.1.attn.c_attn.bias").shape() == Shape{12});
    CHECK(state.at("transformer.h.1.attn.c_proj.weight").shape() == Shape{4, 4});
    CHECK(state.at("transformer.h.1.ln_2.bias").shape() == Shape{4});
    CHECK(state.at("transformer.h.1.mlp.c_fc.weight").shape() == Shape{4, 16});
    CHECK(state.at("transformer.h.1.mlp.c_proj.weight").shape() == Shape{16, 4});
    CHECK(state.at("transformer.ln_f.bias").shape() == Shape{4});
    CHECK(state.count("lm_head.weight") == 0);
    CHECK(model.named_parameters().front().name == "transformer.wte.weight");
  }

  TEST_CASE("initialisation") {
    manual_seed(1);
    const Gpt2 model(
        {.vocab_size = 200, .n_positions = 100, .n_layer = 2, .n_head = 2, .n_embd = 64});
    for (const NamedTensor& parameter : model.named_parameters()) {
      const std::string& name = parameter.name;
      const Tensor& tensor = parameter.tensor;
      CAPTURE(name);
      const bool norm = contains(name, "ln_");
      if (name.ends_with(".bias")) {
        CHECK(tensor.to_vector<float>() ==
              std::vector<float>(static_cast<size_t>(tensor.numel()), 0.0f));
      } else if (norm) {
        CHECK(tensor.to_vector<float>() == std::vector<float>(64, 1.0f));
      } else {
        const double expected = name.ends_with("c_proj.weight") ? 0.01 : 0.02;  // .02 / sqrt(2 * 2)
        CHECK(std::abs(standard_deviation(tensor) / expected - 1.0) < 0.04);
      }
    }
    // The first loss is that of a uniform guess.
    const Tensor tokens = random_tokens({4, 32}, 200), targets = random_tokens({4, 32}, 200, 1);
    auto fresh =
        Gpt2({.vocab_size = 200, .n_positions = 100, .n_layer = 2, .n_head = 2, .n_embd = 64});
    fresh.eval();
    CHECK(std::abs(fresh.loss(tokens, targets).item<double>() - std::log(200.0)) < 0.05);
  }

  TEST_CASE("a token does not see the future") {
    manual_seed(2);
    Gpt2 model(tiny_config());
    const NoGradGuard no_grad;
    Tensor tokens = random_tokens({2, 10}, 50);
    const Tensor before = model.forward(tokens);
    tokens.data<int64_t>()[6] = (tokens.data<int64_t>()[6] + 1) % 50;  // first sequence, t = 6
    const Tensor after = model.forward(tokens);
    const auto part = [](const Tensor& logits, int64_t begin, int64_t end) {
      return slice(select(logits, 0, 0), 0, begin, end).to_vector<float>();
    };
    CHECK(part(before, 0, 6) == part(after, 0, 6));
    CHECK(part(before, 6, 7) != part(after, 6, 7));
    CHECK(part(before, 9, 10) != part(after, 9, 10));
    CHECK(select(before, 0, 1).to_vector<float>() == select(after, 0, 1).to_vector<float>());
  }

  // A probability of almost 1 drops everything, which shows where each of the three acts.
  TEST_CASE("each dropout acts where its name says, in training mode only") {
    constexpr double kAlmostAll = 0.9999999;
    const Tensor tokens = random_tokens({1, 8}, 50);
    Tensor other = clone(tokens);
    other.data<int64_t>()[0] = (tokens.data<int64_t>()[0] + 1) % 50;
    const NoGradGuard no_grad;
    // The logits of the last position for both texts, whose first token differs, and of the first.
    struct Logits {
      std::vector<float> last, other_last, first;
    };
    const auto logits = [&](const Gpt2Config& config, bool training) {
      manual_seed(12);
      Gpt2 model(config);
      for (const Tensor& parameter : model.parameters()) mul_(parameter, 3.0);
      model.train(training);
      const Tensor a = select(model.forward(tokens), 0, 0);
      const Tensor b = select(model.forward(other), 0, 0);
      return Logits{select(a, 0, -1).to_vector<float>(), select(b, 0, -1).to_vector<float>(),
                    select(a, 0, 0).to_vector<float>()};
    };
    const Logits plain = logits(tiny_config(), true);
    CHECK(plain.last != plain.other_last);
    CHECK(plain.last != plain.first);

    Gpt2Config config = tiny_config();
    config.embd_pdrop = kAlmostAll;  // nothing of tokens and positions is left
    CHECK(logits(config, true).last == logits(config, true).first);
    CHECK(logits(config, false).last == plain.last);

    config = tiny_config();
    config.attn_pdrop = kAlmostAll;  // no token sees another, but it sees itself
    CHECK(logits(config, true).last == logits(config, true).other_last);
    CHECK(logits(config, true).last != logits(config, true).first);
    CHECK(logits(config, false).last == plain.last);

    config = tiny_config();
    config.resid_pdrop = kAlmostAll;  // neither attention nor MLP adds anything to the stream
    manual_seed(12);
    Gpt2 model(config);
    const Tensor stream = embedding(tokens, model.parameter("transformer.wte.weight")) +
                          slice(model.parameter("transformer.wpe.weight"), 0, 0, 8);
    const Tensor expected = linear(layer_norm(stream, ones({8}), zeros({8})),
                                   model.parameter("transformer.wte.weight"));
    CHECK(model.forward(tokens).to_vector<float>() == expected.to_vector<float>());
    model.eval();
    CHECK(model.forward(tokens).to_vector<float>() != expected.to_vector<float>());
  }

  TEST_CASE("ignored targets do not count") {
    manual_seed(2);
    Gpt2 model(tiny_config());
    const NoGradGuard no_grad;
    const Tensor tokens = random_tokens({1, 8}, 50);
    Tensor targets = full({1, 8}, -100, i64);
    targets.data<int64_t>()[3] = 7;
    const double loss = model.loss(tokens, targets).item<double>();
    const std::vector<double> row =
        select(select(log_softmax(model.forward(tokens)), 0, 0), 0, 3).to_vector<double>();
    CHECK(loss == doctest::Approx(-row[7]).epsilon(1e-6));
  }

  TEST_CASE("the loss is the cross entropy of the logits, without the logits") {
    for (const bool tied : {true, false}) {
      manual_seed(4);
      Gpt2Config config = tiny_config();
      config.tie_word_embeddings = tied;
      Gpt2 model(config);
      const Tensor tokens = random_tokens({3, 8}, 50), targets = random_tokens({3, 8}, 50, 1);
      const Tensor loss = model.loss(tokens, targets);
      const Tensor expected = cross_entropy(model.forward(tokens), targets);
      CHECK(std::string(producer(loss)) == "linear_cross_entropy");
      CHECK(loss.item<double>() == doctest::Approx(expected.item<double>()).epsilon(1e-6));
      const std::vector<Tensor> got = grad({loss}, model.parameters()),
                                want = grad({expected}, model.parameters());
      for (size_t i = 0; i < want.size(); ++i)
        CHECK(max(abs(got[i] - want[i])).item<double>() <=
              1e-5 * max(abs(want[i])).item<double>() + 1e-9);
    }
  }

  TEST_CASE("the cache changes nothing") {
    manual_seed(3);
    Gpt2 model(tiny_config());
    model.eval();
    const NoGradGuard no_grad;
    const Tensor tokens = random_tokens({2, 12}, 50);
    const std::vector<double> whole = model.forward(tokens).to_vector<double>();
    nn::ModelCache cache = model.make_cache();
    std::vector<Tensor> parts;
    for (const auto& [begin, end] : {std::pair{0, 5}, std::pair{5, 6}, std::pair{6, 12}})
      parts.push_back(model.forward(slice(tokens, 1, begin, end), cache));
    const std::vector<double> pieces = cat(parts, 1).to_vector<double>();
    REQUIRE(pieces.size() == whole.size());
    for (size_t i = 0; i < whole.size(); ++i) REQUIRE(std::abs(pieces[i] - whole[i]) < 1e-5);
    cache.clear();
    const std::vector<double> last = model.next_logits(tokens, cache).to_vector<double>();
    REQUIRE(last.size() == 100);
    for (size_t i = 0; i < 50; ++i) CHECK(std::abs(last[i] - whole[11 * 50 + i]) < 1e-5);
  }

  TEST_CASE("save and load give the same bits") {
    manual_seed(4);
    for (const bool tied : {true, false}) {
      Gpt2Config config = tiny_config();
      config.tie_word_embeddings = tied;
      config.n_inner = 24;
      config.eos_token_id = 49;
      Gpt2 model(config);
      const TemporaryFolder folder;
      model.save_pretrained(folder.path);
      auto loaded = Gpt2::from_pretrained(folder.path);
      CHECK(loaded.config() == config);
      const StateDict a = model.state_dict(), b = loaded.state_dict();
      REQUIRE(a.size() == b.size());
      for (const auto& [name, tensor] : a)
        CHECK(tensor.to_vector<float>() == b.at(name).to_vector<float>());
      CHECK(a.count("lm_head.weight") == (tied ? 0 : 1));
      const NoGradGuard no_grad;
      const Tensor tokens = random_tokens({1, 5}, 50);
      CHECK(model.forward(tokens).to_vector<float>() == loaded.forward(tokens).to_vector<float>());

      std::ifstream file(folder.path / "config.json");
      const std::string text((std::istreambuf_iterator<char>(file)),
                             std::istreambuf_iterator<char>());
      CHECK(contains(text, "\"model_type\": \"gpt2\""));
      CHECK(contains(text, "\"GPT2LMHeadModel\""));
      CHECK(contains(text, "\"activation_function\": \"gelu_new\""));
      CHECK(contains(text, "\"n_inner\": 24"));
    }
  }

  TEST_CASE("files of the original checkpoint: no prefix, mask buffers, a repeated head") {
    manual_seed(5);
    Gpt2 model(tiny_config());
    const TemporaryFolder folder;
    model.save_pretrained(folder.path);
    StateDict original;
    for (const auto& [name, tensor] : model.state_dict())
      original[name.substr(std::string("transformer.").size())] = tensor;
    original["h.0.attn.bias"] = zeros({1, 1, 16, 16});
    original["h.0.attn.masked_bias"] = zeros({1});
    original["lm_head.weight"] = original.at("wte.weight");
    const std::string weights = (folder.path / "model.safetensors").string();
    save_safetensors(weights, original);
    const auto loaded = Gpt2::from_pretrained(folder.path);
    CHECK(loaded.state_dict().at("transformer.h.1.mlp.c_fc.weight").to_vector<float>() ==
          original.at("h.1.mlp.c_fc.weight").to_vector<float>());

    original["lm_head.weight"] = zeros({50, 8});
    save_safetensors(weights, original);
    CHECK(contains(message_of([&] { Gpt2::from_pretrained(folder.path); }),
                   "lm_head.weight differs"));
    original.erase("lm_head.weight");
    original.erase("ln_f.weight");
    original["transformer.h.0.ln_1.weight"] = original.at("h.0.ln_1.weight");
    save_safetensors(weights, original);
    CHECK(contains(message_of([&] { Gpt2::from_pretrained(folder.path); }), "there twice"));
    original.erase("transformer.h.0.ln_1.weight");
    original["wpe.weight"] = zeros({17, 8});
    save_safetensors(weights, original);
    const std::string message = message_of([&] { Gpt2::from_pretrained(folder.path); });
    CHECK(contains(message, "transformer.ln_f.weight is missing"));
    CHECK(contains(message, "transformer.wpe.weight has shape (17, 8), the module needs (16, 8)"));
    CHECK_THROWS_AS(Gpt2::from_pretrained(folder.path / "nowhere"), Error);
  }

  TEST_CASE("16-bit weights save as such and load into f32") {
    manual_seed(6);
    Gpt2 model(tiny_config());
    model.to(bf16);
    const TemporaryFolder folder;
    model.save_pretrained(folder.path);
    const auto loaded = Gpt2::from_pretrained(folder.path);
    CHECK(loaded.parameter("transformer.wte.weight").dtype() == f32);
    CHECK(loaded.parameter("transformer.wte.weight").to_vector<float>() ==
          model.parameter("transformer.wte.weight").to_vector<float>());
  }

  TEST_CASE("config.json: round trip, defaults, and what is refused") {
    Gpt2Config config = tiny_config();
    config.activation = nn::Activation::relu;
    config.layer_norm_epsilon = 1e-6;
    config.bos_token_id = 3;
    CHECK(Gpt2Config::from_json(config.to_json(), "test") == config);
    CHECK(contains(config.to_json(), "\"eos_token_id\": null"));
    CHECK(Gpt2Config::from_json("{}", "test") == Gpt2Config{});
    const auto refused = [](const std::string& text) {
      return message_of([&] { Gpt2Config::from_json(text, "config.json"); });
    };
    CHECK(contains(refused(R"({"model_type": "llama"})"), "llama"));
    CHECK(contains(refused(R"({"activation_function": "mish"})"), "mish"));
    CHECK(contains(refused(R"({"scale_attn_by_inverse_layer_idx": true})"), "not supported"));
    CHECK(contains(refused(R"({"n_head": 5})"), "multiple of n_head"));
    CHECK(contains(refused(R"({"n_layer": 0})"), "n_layer"));
    CHECK(contains(refused(R"({"n_layer": "two"})"), "json"));
    CHECK(contains(refused("[]"), "object"));
    CHECK(contains(refused("{"), "config.json"));
  }

  TEST_CASE("wrong inputs are Errors") {
    Gpt2 model(tiny_config());
    CHECK_THROWS_AS(model.forward(zeros({4}, i64)), Error);
    CHECK_THROWS_AS(model.forward(zeros({1, 0}, i64)), Error);
    CHECK_THROWS_AS(model.forward(zeros({1, 17}, i64)), Error);
    CHECK_THROWS_AS(model.forward(full({1, 2}, 50, i64)), Error);
    CHECK_THROWS_AS(model.forward(zeros({1, 2})), Error);
    CHECK_THROWS_AS(model.loss(zeros({1, 2}, i64), zeros({1, 3}, i64)), Error);
    CHECK_THROWS_AS(Gpt2({.vocab_size = 0}), Error);
    CHECK_THROWS_AS(Gpt2({.n_head = 5}), Error);
    CHECK_THROWS_AS(Gpt2({.attn_pdrop = 1.0}), Error);
    CHECK_THROWS_AS(Gpt2({.activation = nn::Activation::swiglu}), Error);
    nn::ModelCache wrong(3, 16);
    const NoGradGuard no_grad;
    CHECK_THROWS_AS(model.forward(zeros({1, 2}, i64), wrong), Error);
  }

  TEST_CASE("operations per token") {
    // nanoGPT's figure for GPT-2 small
    CHECK(Gpt2Config{}.flops_per_token(1024) == 855166464.0);
    CHECK(Gpt2(tiny_config()).flops_per_token(16) == tiny_config().flops_per_token(16));
  }

  TEST_CASE("a few steps of training learn a repeated sequence") {
    manual_seed(7);
    Gpt2 model(tiny_config());
    optim::AdamW optimizer(model.named_parameters(), {.lr = 1e-2, .weight_decay = 0.0});
    const Tensor tokens = random_tokens({2, 8}, 50), targets = random_tokens({2, 8}, 50, 1);
    std::vector<double> losses;
    for (int step = 0; step < 60; ++step) {
      optimizer.zero_grad();
      const Tensor loss = model.loss(tokens, targets);
      loss.backward();
      for (const Tensor& parameter : model.parameters()) REQUIRE(parameter.grad().defined());
      CHECK(std::isfinite(optim::clip_grad_norm(optimizer.parameters(), 1.0)));
      optimizer.step();
      losses.push_back(loss.item<double>());
    }
    CHECK(losses.front() > 3.5);
    CHECK(losses.back() < 0.5);
  }
}
