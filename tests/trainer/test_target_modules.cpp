// Which weights a low-rank optimizer is given.
#include <doctest/doctest.h>
#include <tendril/core/log.h>
#include <tendril/nn/layer_norm.h>
#include <tendril/nn/linear.h>
#include <tendril/nn/models/gpt2.h>
#include <tendril/trainer/target_modules.h>

#include <string>
#include <vector>

#include "test_tools.h"
#include "trainer_tools.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

struct Layers : nn::Module {
  nn::Linear query{4, 4}, up{4, 8}, head{4, 6};
  nn::LayerNorm up_norm{4};
  Layers() {
    add("attn_query", query);
    add("mlp_up", up);
    add("mlp_up_norm", up_norm);
    add("head", head);
  }
};

using Names = std::vector<std::string>;

Names names_of(const std::vector<NamedTensor>& list) {
  Names names;
  for (const NamedTensor& entry : list) names.push_back(entry.name);
  return names;
}

Names chosen(nn::Module& model, const Names& keys) { return names_of(target_weights(model, keys)); }
Names chosen(nn::Module& model, const std::string& pattern) {
  return names_of(target_weights(model, pattern));
}

// What is logged while `body` runs.
template <class Body>
std::string logged_by(const Body& body) {
  std::string text;
  set_log_sink([&](LogLevel, const std::string& message) { text += message + "\n"; });
  body();
  set_log_sink({});
  return text;
}

}  // namespace

TEST_SUITE("trainer_target_modules") {
  TEST_CASE("a list matches whole paths, parts of them and expressions") {
    Layers model;
    CHECK(chosen(model, Names{"attn_query"}) == Names{"attn_query.weight"});
    CHECK(chosen(model, Names{"query", "head"}) == Names{"attn_query.weight", "head.weight"});
    CHECK(chosen(model, Names{"(attn|mlp)_[a-z]+"}) == Names{"attn_query.weight", "mlp_up.weight"});
    CHECK(chosen(model, Names{"all-linear"}) ==
          Names{"attn_query.weight", "mlp_up.weight", "head.weight"});
    CHECK(chosen(model, Names{"all_linear"}).size() == 3);
    // No expression at all, but a part of no path either.
    CHECK(chosen(model, Names{"(", "head"}) == Names{"head.weight"});
  }

  TEST_CASE("one expression matches whole paths only") {
    Layers model;
    CHECK(chosen(model, std::string("mlp.*")) == Names{"mlp_up.weight"});
    CHECK(chosen(model, std::string("all-linear")).size() == 3);
    CHECK(contains(message_of([&] { chosen(model, std::string("mlp")); }), "no linear layer"));
    CHECK(contains(message_of([&] { chosen(model, std::string("(")); }), "no regular expression"));
  }

  TEST_CASE("layers that are not linear are left out, with a word where they were named") {
    Layers model;
    CHECK(contains(logged_by([&] { chosen(model, Names{"mlp"}); }),
                   "mlp_up_norm matches but is a LayerNorm"));
    CHECK(logged_by([&] { chosen(model, Names{"mlp_.*"}); }) == "");
    CHECK(logged_by([&] { chosen(model, std::string("mlp_.*")); }) == "");
  }

  TEST_CASE("nothing to work on is an error that lists what there is") {
    Layers model;
    const std::string message = message_of([&] { chosen(model, Names{"conv"}); });
    CHECK(contains(message, "conv matches no linear layer"));
    CHECK(contains(message, "the model has attn_query, mlp_up, head"));
    CHECK(contains(message_of([&] { chosen(model, Names{}); }), "is empty"));
    CHECK(contains(message_of([&] { chosen(model, Names{""}); }), "must not be empty"));
    Tensor head = model.parameter("head.weight");
    head.requires_grad_(false);
    CHECK(contains(message_of([&] { chosen(model, Names{"head"}); }), "frozen layers only"));
    CHECK(chosen(model, Names{"all-linear"}) == Names{"attn_query.weight", "mlp_up.weight"});
  }

  TEST_CASE("GPT-2's transposed layers count, by their own names") {
    nn::models::Gpt2 model(tiny_gpt_config());
    CHECK(chosen(model, Names{"attn.c_attn", "mlp.c_fc"}) ==
          Names{"transformer.h.0.attn.c_attn.weight", "transformer.h.0.mlp.c_fc.weight",
                "transformer.h.1.attn.c_attn.weight", "transformer.h.1.mlp.c_fc.weight"});
    CHECK(chosen(model, Names{"attn", "mlp"}).size() == 8);
  }
}
