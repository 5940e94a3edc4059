// From names in the arguments to optimizers with 8-bit states and without masters.
#include <doctest/doctest.h>

#include <tendril/core/creation.h>
#include <tendril/trainer/optimizer_choice.h>
#include "test_tools.h"
#include "trainer/trainer_tools.h"

using namespace tendril;
using namespace tendril::testing;

namespace {

// One update of every parameter of a small GPT-2: the optimizer's state.
StateDict state_after_a_step(const std::string& optim, const std::string& optim_args,
                             DType dtype = f32) {
  nn::models::Gpt2 model(tiny_gpt_config());
  model.to(dtype);
  TrainingArguments args;
  args.optim = optim;
  if (!optim_args.empty()) args.optim_args = optim_args;
  const auto optimizer = make_optimizer(args, parameter_groups(model, {"transformer.wte.weight"}));
  for (Tensor p : optimizer->parameters()) p.set_grad(ones(p.shape(), p.dtype()));
  optimizer->step();
  return optimizer->state_dict();
}

}  // namespace

TEST_SUITE("optimizer_choice") {
  TEST_CASE("8-bit optimizers keep the states of embeddings in 32 bits") {
    for (const std::string optim : {"adamw_8bit", "adamw_bnb_8bit", "lion_8bit"}) {
      CAPTURE(optim);
      const StateDict state = state_after_a_step(optim, "min_8bit_size=100");
      CHECK(state.at("transformer.h.0.attn.c_attn.weight.exp_avg.codes").dtype() == u8);
      CHECK(state.at("transformer.wte.weight.exp_avg").dtype() == f32);
      CHECK(state.at("transformer.wpe.weight.exp_avg").dtype() == f32);
      CHECK(state.at("transformer.ln_f.weight.exp_avg").dtype() == f32);  // too small
      CHECK(state.count("transformer.h.0.attn.c_attn.weight.exp_avg_sq.codes") ==
            (optim == "lion_8bit" ? 0 : 1));
    }
  }

  TEST_CASE("by default tensors of fewer than 4096 elements stay in 32 bits") {
    const StateDict state = state_after_a_step("adamw_8bit", "");
    CHECK(state.at("transformer.h.0.attn.c_attn.weight.exp_avg").dtype() == f32);  // 16 x 48
  }

  TEST_CASE("stochastic_rounding leaves out the masters of bf16 parameters") {
    const auto masters = [](const StateDict& state) {
      int64_t count = 0;
      for (const auto& [name, tensor] : state) count += name.ends_with(".master");
      return count;
    };
    for (const std::string optim : {"adamw_torch", "sgd", "adamw_8bit", "lion_8bit"}) {
      CAPTURE(optim);
      CHECK(masters(state_after_a_step(optim, "", bf16)) > 0);
      CHECK(masters(state_after_a_step(optim, "stochastic_rounding=true", bf16)) == 0);
    }
  }

  TEST_CASE("embeddings are told by their module, and tied ones once") {
    nn::models::Gpt2 model(tiny_gpt_config());
    const ParameterGroups groups =
        parameter_groups(model, {"transformer.wte.weight", "transformer.h.0.mlp.c_fc.weight"});
    CHECK(groups.embeddings ==
          std::set<std::string>{"transformer.wte.weight", "transformer.wpe.weight"});
    CHECK(groups.decayed.size() == 2);
    CHECK(groups.decayed.size() + groups.kept.size() == model.named_parameters().size());
  }

  TEST_CASE("options that an optimizer does not know are refused") {
    CHECK(contains(message_of([] { state_after_a_step("lion_8bit", "amsgrad=true"); }), "amsgrad"));
    CHECK(contains(message_of([] { state_after_a_step("adamw_16bit", ""); }), "adamw_8bit"));
  }
}
