// Sharded training is the training of one process on the union of the batches.
#include <doctest/doctest.h>

#include <tendril/core/allocator.h>
#include <tendril/dist/sharded_checkpoint.h>
#include <tendril/optim/muon.h>

#include <cmath>

#include "dist_tools.h"
#include "test_tools.h"

namespace {

using namespace tendril;
using namespace tendril::testing;
using dist::FullyShardedOptions;
using dist::Partition;
using dist::ShardingStrategy;

constexpr int64_t kSteps = 12, kManySteps = 50;

Run train_alone(int64_t steps = kSteps) {
  manual_seed(3);
  nn::models::Gpt2 model(small_gpt2());
  optim::AdamW optimizer(model.named_parameters(), {.lr = 3e-3, .weight_decay = 0.1});
  Run run;
  for (int64_t step = 0; step < steps; ++step) {
    const Tensor loss = model.loss(tokens_of_step(step), targets_of_step(step));
    loss.backward();
    optim::clip_grad_norm(optimizer.parameters(), 0.05);
    optimizer.step();
    optimizer.zero_grad();
    run.losses.push_back(loss.item<double>());
  }
  for (const auto& [name, tensor] : model.state_dict()) run.weights[name] = tensor;
  return run;
}

double mean_over_ranks(dist::ProcessGroup& group, double value) {
  const Tensor sum = full({1}, value, f64);
  group.all_reduce(sum, dist::ReduceOp::avg).wait();
  return sum.item<double>();
}

// One rank's run under FullySharded.
Run train_sharded(const Group& group, const FullyShardedOptions& options, int64_t accumulate = 1,
                  bool checkpointing = false, int64_t steps = kSteps) {
  manual_seed(group->rank() == 0 ? 3 : 100);  // rank 0's weights count
  nn::models::Gpt2 model(small_gpt2());
  model.set_gradient_checkpointing(checkpointing);
  dist::FullySharded fsdp(model, group, options);
  optim::AdamW optimizer(fsdp.named_parameters(), {.lr = 3e-3, .weight_decay = 0.1});
  Run run;
  for (int64_t step = 0; step < steps; ++step) {
    const Tensor x = share_of(tokens_of_step(step), group->rank(), group->size());
    const Tensor y = share_of(targets_of_step(step), group->rank(), group->size());
    double sum = 0.0;
    for (int64_t part = 0; part < accumulate; ++part) {
      const Tensor loss =
          model.loss(share_of(x, static_cast<int>(part), static_cast<int>(accumulate)),
                     share_of(y, static_cast<int>(part), static_cast<int>(accumulate))) /
          static_cast<double>(accumulate);
      if (part + 1 < accumulate) {
        const dist::NoSync local = fsdp.no_sync();
        loss.backward();
      } else {
        loss.backward();
      }
      sum += loss.item<double>();
    }
    fsdp.clip_grad_norm(0.05);
    optimizer.step();
    optimizer.zero_grad();
    run.losses.push_back(mean_over_ranks(*group, sum));
  }
  run.weights = fsdp.full_state_dict(true);
  return run;
}

Run train_data_parallel(const Group& group, int64_t steps) {
  manual_seed(group->rank() == 0 ? 3 : 100);
  nn::models::Gpt2 model(small_gpt2());
  dist::DistributedDataParallel ddp(model, group, {.bucket_cap_mb = 0.004});
  CHECK(ddp.bucket_count() > 3);
  optim::AdamW optimizer(model.named_parameters(), {.lr = 3e-3, .weight_decay = 0.1});
  Run run;
  for (int64_t step = 0; step < steps; ++step) {
    const Tensor loss = model.loss(share_of(tokens_of_step(step), group->rank(), group->size()),
                                   share_of(targets_of_step(step), group->rank(), group->size()));
    loss.backward();
    optim::clip_grad_norm(optimizer.parameters(), 0.05);
    optimizer.step();
    optimizer.zero_grad();
    run.losses.push_back(mean_over_ranks(*group, loss.item<double>()));
  }
  for (const auto& [name, tensor] : model.state_dict()) run.weights[name] = tensor;
  return run;
}

// Every rank's result, rank 0's returned; all must be equal to the bit.
Run on_ranks(int size, const std::function<Run(const Group&)>& body) {
  std::vector<Run> runs(static_cast<size_t>(size));
  dist::run_ranks(
      size, [&](const Group& group) { runs[static_cast<size_t>(group->rank())] = body(group); });
  for (const Run& run : runs) {
    CHECK(run.losses == runs[0].losses);
    for (const auto& [name, tensor] : run.weights)
      CHECK(tensor.to_vector<float>() == runs[0].weights.at(name).to_vector<float>());
  }
  return runs[0];
}

void check_close(const Run& run, const Run& expected, double tolerance) {
  REQUIRE(run.losses.size() == expected.losses.size());
  for (size_t i = 0; i < run.losses.size(); ++i) {
    CAPTURE(i);
    CHECK(std::abs(run.losses[i] - expected.losses[i]) <= tolerance * expected.losses[i]);
  }
  CHECK(run.losses.back() < 0.9 * run.losses.front());  // it does train
}

bool same_bits(const Run& a, const Run& b) {
  if (a.losses != b.losses || a.weights.size() != b.weights.size()) return false;
  for (const auto& [name, tensor] : a.weights)
    if (tensor.to_vector<float>() != b.weights.at(name).to_vector<float>()) return false;
  return true;
}

FullyShardedOptions with(ShardingStrategy strategy, bool wrap = true,
                         Partition partition = Partition::rows) {
  FullyShardedOptions options{.strategy = strategy, .partition = partition};
  if (wrap) options.wrap = dist::wrap_class({"Gpt2Block"});
  return options;
}

}  // namespace

TEST_SUITE("fully sharded") {
  TEST_CASE("every strategy trains as one process does, and all with the same bits") {
    const OneThreadEach one_thread;
    const Run alone = train_alone(kManySteps);
    for (const int size : {1, 2, 3, 4}) {
      CAPTURE(size);
      const Run data_parallel =
          on_ranks(size, [](const Group& group) { return train_data_parallel(group, kManySteps); });
      check_close(data_parallel, alone, 1e-6);
      for (const FullyShardedOptions& options :
           {with(ShardingStrategy::full_shard), with(ShardingStrategy::shard_grad_op),
            with(ShardingStrategy::no_shard), with(ShardingStrategy::full_shard, false),
            with(ShardingStrategy::full_shard, true, Partition::whole)}) {
        CAPTURE(std::string(dist::name(options.strategy)));
        const Run run = on_ranks(size, [&](const Group& group) {
          return train_sharded(group, options, 1, false, kManySteps);
        });
        check_close(run, alone, 1e-6);
        if (options.partition == Partition::rows) CHECK(same_bits(run, data_parallel));
      }
    }
  }

  TEST_CASE("accumulation without exchange, and recomputation, change nothing") {
    const OneThreadEach one_thread;
    const Run alone = train_alone();
    for (const ShardingStrategy strategy :
         {ShardingStrategy::full_shard, ShardingStrategy::shard_grad_op}) {
      const FullyShardedOptions options = with(strategy);
      const Run plain =
          on_ranks(2, [&](const Group& group) { return train_sharded(group, options); });
      check_close(on_ranks(2, [&](const Group& group) { return train_sharded(group, options, 3); }),
                  alone, 1e-6);
      const Run recomputed =
          on_ranks(2, [&](const Group& group) { return train_sharded(group, options, 1, true); });
      CHECK(same_bits(recomputed, plain));
    }
  }

  TEST_CASE("prefetching changes no bit") {
    const OneThreadEach one_thread;
    FullyShardedOptions options = with(ShardingStrategy::full_shard);
    const Run ahead =
        on_ranks(2, [&](const Group& group) { return train_sharded(group, options); });
    options.forward_prefetch = false;
    options.backward_prefetch = dist::BackwardPrefetch::none;
    CHECK(same_bits(ahead, on_ranks(2, [&](const Group& g) { return train_sharded(g, options); })));
    options.forward_prefetch = true;
    options.backward_prefetch = dist::BackwardPrefetch::post;
    options.limit_all_gathers = false;
    CHECK(same_bits(ahead, on_ranks(2, [&](const Group& g) { return train_sharded(g, options); })));
  }

  TEST_CASE("two machines of two ranks each") {
    const OneThreadEach one_thread;
    const Run alone = train_alone();
    for (const ShardingStrategy strategy :
         {ShardingStrategy::hybrid_shard, ShardingStrategy::hybrid_shard_zero2})
      check_close(on_ranks(4,
                           [&](const Group& group) {
                             FullyShardedOptions options = with(strategy);
                             options.shard_group = group->split(group->rank() / 2);
                             return train_sharded(group, options);
                           }),
                  alone, 1e-6);
  }

  TEST_CASE("rows are cut as evenly as possible, and weights come back whole") {
    dist::run_ranks(4, [](const Group& group) {
      manual_seed(1);
      nn::Linear layer(3, 5);
      const StateDict before = {{"weight", clone(layer.weight().detach())},
                                {"bias", clone(layer.bias().detach())}};
      dist::FullySharded fsdp(layer, group);
      const dist::ShardInfo& weight = fsdp.shards()[0];
      CHECK(weight.counts == std::vector<int64_t>{6, 6, 3, 0});
      CHECK(weight.part.shape() == Shape{std::vector<int64_t>{2, 2, 1, 0}[group->rank()], 3});
      CHECK(fsdp.unit_count() == 1);
      CHECK(fsdp.gathered_bytes() == 0);
      const StateDict whole = fsdp.full_state_dict();
      CHECK(whole.size() == (group->rank() == 0 ? 2 : 0));
      for (const auto& [name, tensor] : whole)
        CHECK(tensor.to_vector<float>() == before.at(name).to_vector<float>());
      // Reading the parameter itself gathers it.
      CHECK(layer.weight().to_vector<float>() == before.at("weight").to_vector<float>());
      CHECK(fsdp.gathered_bytes() == (15 + 5) * 4);
      fsdp.reshard();
      CHECK(fsdp.gathered_bytes() == 0);

      StateDict other = {{"weight", full({5, 3}, 2.0)}, {"bias", full({5}, 3.0)}};
      fsdp.load_full_state_dict(group->rank() == 0 ? other : StateDict{}, true);
      fsdp.restore();
      CHECK(layer.weight().to_vector<float>() == std::vector<float>(15, 2.0f));
      CHECK(layer.bias().to_vector<float>() == std::vector<float>(5, 3.0f));
    });
  }

  TEST_CASE("an unused parameter, a frozen one, one that rank 1 alone uses") {
    struct Branches : nn::Module {
      nn::Linear both{2, 2}, second{2, 2}, nobody{2, 2}, frozen{2, 2};
      Branches() {
        add("both", both);
        add("second", second);
        add("nobody", nobody);
        add("frozen", frozen);
        frozen.requires_grad_(false);
      }
    };
    for (const ShardingStrategy strategy :
         {ShardingStrategy::shard_grad_op, ShardingStrategy::no_shard,
          ShardingStrategy::full_shard})
      dist::run_ranks(2, [strategy](const Group& group) {
        manual_seed(1);
        Branches model;
        dist::FullySharded fsdp(model, group, {.strategy = strategy});
        Tensor y = model.frozen(model.both(full({1, 2}, 1.0)));
        if (group->rank() == 1) y = y + model.second(full({1, 2}, 1.0));
        sum(y).backward();
        for (const NamedTensor& parameter : fsdp.named_parameters()) {
          CAPTURE(parameter.name);
          CHECK(parameter.name.find("frozen") == std::string::npos);
          REQUIRE(parameter.tensor.grad().defined());
          if (parameter.name == "second.weight")  // 1 on one of two ranks
            for (const float g : parameter.tensor.grad().to_vector<float>()) CHECK(g == 0.5f);
          if (parameter.name == "nobody.weight")
            for (const float g : parameter.tensor.grad().to_vector<float>()) CHECK(g == 0.0f);
        }
        CHECK(fsdp.named_parameters().size() == 6);
      });
  }

  TEST_CASE("an optimizer of whole matrices: Muon on whole parameters equals one process") {
    const OneThreadEach one_thread;
    const auto train = [](const Group& group) {
      manual_seed(5);
      nn::models::Gpt2 model(small_gpt2());
      dist::FullySharded fsdp(model, group,
                              with(ShardingStrategy::full_shard, true, Partition::whole));
      std::vector<NamedTensor> hidden;
      for (const NamedTensor& parameter : fsdp.named_parameters())
        if (parameter.tensor.rank() == 2 && parameter.name.find("wte") == std::string::npos &&
            parameter.name.find("wpe") == std::string::npos)
          hidden.push_back(parameter);
      optim::Muon optimizer(hidden, {.lr = 1e-2});
      Run run;
      for (int64_t step = 0; step < 4; ++step) {
        const Tensor loss =
            model.loss(share_of(tokens_of_step(step), group->rank(), group->size()),
                       share_of(targets_of_step(step), group->rank(), group->size()));
        loss.backward();
        optimizer.step();
        for (const NamedTensor& parameter : fsdp.named_parameters()) {
          Tensor handle = parameter.tensor;
          handle.set_grad({});
        }
        run.losses.push_back(mean_over_ranks(*group, loss.item<double>()));
      }
      run.weights = fsdp.full_state_dict(true);
      return run;
    };
    const Run alone = on_ranks(1, train), sharded = on_ranks(3, train);
    for (size_t i = 0; i < alone.losses.size(); ++i)
      CHECK(sharded.losses[i] == doctest::Approx(alone.losses[i]).epsilon(1e-5));
  }

  TEST_CASE("gathered weights in bf16 over f32 parts") {
    const OneThreadEach one_thread;
    FullyShardedOptions options = with(ShardingStrategy::full_shard);
    options.param_dtype = bf16;
    const Run run = on_ranks(2, [&](const Group& group) { return train_sharded(group, options); });
    const Run alone = train_alone();
    check_close(run, alone, 0.02);
    CHECK(run.weights.begin()->second.dtype() == f32);
    options.strategy = ShardingStrategy::no_shard;
    check_close(on_ranks(2, [&](const Group& g) { return train_sharded(g, options); }), alone,
                0.02);
  }

  TEST_CASE("misuse is an error that says what to do") {
    dist::run_ranks(2, [](const Group& group) {
      manual_seed(1);
      nn::Linear layer(3, 4);
      {
        dist::FullySharded fsdp(layer, group);
        layer.weight().detach().data<float>()[0] = 1.0f;
        layer.weight().bump_version();
        CHECK_THROWS_WITH_AS(fsdp.reshard(), doctest::Contains("\"weight\" was written to"), Error);
        CHECK_THROWS_WITH_AS(fsdp.load_full_state_dict({{"weight", full({4, 2}, 0.0)}}),
                             doctest::Contains("missing: \"bias\""), Error);
      }
      CHECK_THROWS_WITH_AS(layer.weight().to_vector<float>(), doctest::Contains("restore()"),
                           Error);
      nn::Linear other(3, group->rank() == 0 ? 4 : 5);
      CHECK_THROWS_WITH_AS(dist::FullySharded(other, group),
                           doctest::Contains("rank 0 has \"weight\" (4, 3)"), Error);
      nn::Linear unwrapped(2, 2);
      CHECK_THROWS_WITH_AS(
          dist::FullySharded(unwrapped, group, {.wrap = dist::wrap_class({"BertLayer"})}),
          doctest::Contains("no module of class \"BertLayer\"; it has Linear"), Error);
    });
    CHECK_THROWS_WITH_AS(dist::sharding_strategy_from("ZERO4"), doctest::Contains("FULL_SHARD"),
                         Error);
    CHECK(dist::sharding_strategy_from("zero-3") == ShardingStrategy::full_shard);
    CHECK(dist::sharding_strategy_from("2") == ShardingStrategy::shard_grad_op);
  }
}
