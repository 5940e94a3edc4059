// Where sharding could go wrong without a word: weights read at odd moments, gradients left behind,
// parameters that are nobody's.
#include <doctest/doctest.h>

#include <cmath>
#include <functional>

#include "dist_tools.h"
#include "test_tools.h"

namespace {

using namespace tendril;
using namespace tendril::testing;
using dist::FullyShardedOptions;
using dist::ShardingStrategy;

using Disturb = std::function<void(nn::models::Gpt2&, dist::FullySharded&)>;

// Losses of rank 0 over six steps; `between` runs after backward and before the optimizer's step.
std::vector<double> losses(ShardingStrategy strategy, const Disturb& between) {
  std::vector<double> result;
  dist::run_ranks(2, [&](const Group& group) {
    manual_seed(3);
    nn::models::Gpt2 model(small_gpt2());
    dist::FullySharded fsdp(model, group,
                            {.strategy = strategy, .wrap = dist::wrap_class({"Gpt2Block"})});
    optim::AdamW optimizer(fsdp.named_parameters(), {.lr = 3e-2});
    for (int64_t step = 0; step < 6; ++step) {
      const Tensor loss = model.loss(share_of(tokens_of_step(step), group->rank(), group->size()),
                                     share_of(targets_of_step(step), group->rank(), group->size()));
      loss.backward();
      if (between) between(model, fsdp);
      optimizer.step();
      fsdp.zero_grad();
      if (group->rank() == 0) result.push_back(loss.item<double>());
    }
  });
  return result;
}

struct Pair : nn::Module {
  nn::Linear first{2, 2}, second{2, 2};
  Pair() { add("first", first), add("second", second); }
};

}  // namespace

TEST_SUITE("sharding corners") {
  TEST_CASE("weights that are read between backward and the step are not stale afterwards") {
    const OneThreadEach one_thread;
    for (const ShardingStrategy strategy :
         {ShardingStrategy::full_shard, ShardingStrategy::shard_grad_op}) {
      const std::vector<double> expected = losses(strategy, {});
      CHECK(expected.back() < expected.front());
      for (const char* name : {"transformer.wte.weight", "transformer.h.1.mlp.c_fc.weight",
                               "transformer.h.2.ln_1.bias"}) {
        CAPTURE(std::string(name));
        CHECK(losses(strategy, [&](nn::models::Gpt2& model, dist::FullySharded&) {
                const NoGradGuard no_grad;
                CHECK(std::isfinite(sum(model.parameter(name).detach()).item<double>()));
              }) == expected);
      }
      // A whole forward pass, as an evaluation makes.
      CHECK(losses(strategy, [&](nn::models::Gpt2& model, dist::FullySharded&) {
              const NoGradGuard no_grad;
              CHECK(model.loss(tokens_of_step(0), targets_of_step(0)).item<double>() > 0.0);
            }) == expected);
    }
  }

  TEST_CASE("gradients of passes that were dropped are dropped") {
    const OneThreadEach one_thread;
    for (const ShardingStrategy strategy :
         {ShardingStrategy::full_shard, ShardingStrategy::no_shard})
      dist::run_ranks(2, [&](const Group& group) {
        manual_seed(3);
        nn::models::Gpt2 model(small_gpt2());
        dist::FullySharded fsdp(model, group,
                                {.strategy = strategy, .wrap = dist::wrap_class({"Gpt2Block"})});
        const auto loss = [&](int64_t step) {
          return model.loss(share_of(tokens_of_step(step), group->rank(), group->size()),
                            share_of(targets_of_step(step), group->rank(), group->size()));
        };
        loss(0).backward();
        const double expected = fsdp.grad_norm();
        fsdp.zero_grad();
        {
          const dist::NoSync local = fsdp.no_sync();
          loss(1).backward();
        }
        fsdp.zero_grad();
        loss(0).backward();
        CHECK(fsdp.grad_norm() == expected);
        fsdp.zero_grad();
        // An Error in the middle of backward, on all ranks.
        HookHandle hook = register_grad_complete_hook(
            model.parameter("transformer.h.1.ln_1.weight"), [](Tensor&) { fail("enough"); });
        CHECK(message_of([&] { loss(1).backward(); }) == "enough");
        hook.remove();
        for (Tensor& part : fsdp.parameters()) part.set_grad({});  // what an optimizer would do
        loss(0).backward();
        CHECK(fsdp.grad_norm() == expected);
      });
  }

  TEST_CASE("a sharded parameter in a collective, and a model that is sharded twice, are errors") {
    dist::run_ranks(2, [](const Group& group) {
      Pair model;
      dist::FullySharded fsdp(model, group);
      CHECK(contains(message_of([&] { group->all_reduce(model.first.weight().detach()); }),
                     "pass a clone()"));
      CHECK(
          contains(message_of([&] { dist::FullySharded again(model, group); }), "sharded already"));
    });
  }

  TEST_CASE("ignored modules stay whole with all below them, and must be frozen") {
    dist::run_ranks(2, [](const Group& group) {
      nn::models::Gpt2 model(small_gpt2());
      const FullyShardedOptions options{.wrap = dist::wrap_class({"Gpt2Block"}),
                                        .ignored_modules = {"transformer\\.h\\.0"}};
      CHECK(contains(message_of([&] { dist::FullySharded fsdp(model, group, options); }),
                     "freeze it"));
      CHECK(contains(
          message_of([&] { dist::FullySharded fsdp(model, group, {.ignored_modules = {"h.9"}}); }),
          "no module's name matches"));
      nn::models::Gpt2 other(small_gpt2());
      other.for_each_module([](const std::string& name, nn::Module& module) {
        if (name == "transformer.h.0") module.requires_grad_(false);
      });
      dist::FullySharded fsdp(other, group, options);
      for (const dist::ShardInfo& shard : fsdp.shards())
        CHECK(!shard.name.starts_with("transformer.h.0."));
      other.loss(tokens_of_step(0), targets_of_step(0)).backward();
      CHECK(fsdp.grad_norm() > 0.0);
    });
  }

  TEST_CASE("data parallel leaves what no rank has used without a gradient") {
    dist::run_ranks(2, [](const Group& group) {
      Pair model;
      dist::DistributedDataParallel ddp(model, group, {.find_unused_parameters = true});
      sum(model.first(full({1, 2}, 1.0))).backward();
      CHECK(model.first.weight().grad().defined());
      CHECK(!model.second.weight().grad().defined());
      model.zero_grad();
      if (group->rank() == 1)
        sum(model.second(model.first(full({1, 2}, 1.0)))).backward();
      else
        sum(model.first(full({1, 2}, 1.0))).backward();
      CHECK(model.second.weight().grad().defined());
      CHECK(model.second.bias().grad().to_vector<float>() == std::vector<float>{0.5f, 0.5f});
    });
    dist::run_ranks(2, [](const Group& group) {
      Pair model;
      dist::DistributedDataParallel ddp(model, group);
      CHECK(contains(message_of([&] {
                       sum(model.first(full({1, 2}, 1.0))).backward();
                     }),
                     "\"second.weight\" got no gradient"));
    });
  }
}
