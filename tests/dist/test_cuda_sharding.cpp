// Several processes, which are threads here, with their tensors on GPUs: all on one, or each on its
// own. The run is the CPU's, whatever the strategy; what a GPU saves a CPU goes on from. Without a
// GPU there is nothing to compare; with one all ranks share it.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>

#include <tendril/core/cuda.h>
#include <tendril/dist/sharded_checkpoint.h>

#include "../cuda_tools.h"
#include "../file_tools.h"
#include "collective_scenario.h"
#include "dist_tools.h"

namespace {

using namespace tendril;
using namespace tendril::testing;
using dist::FullyShardedOptions;
using dist::ShardingStrategy;

constexpr int64_t kSteps = 10;

enum class Place { cpu, one_gpu, own_gpu };

// With one GPU they are the same.
std::vector<Place> gpu_places() {
  if (cuda::device_count() == 1) return {Place::own_gpu};
  return {Place::one_gpu, Place::own_gpu};
}

Device device_of(Place place, int rank) {
  if (place == Place::cpu) return Device::cpu();
  return Device::cuda(place == Place::one_gpu ? 0 : rank % cuda::device_count());
}

// Small enough for emulated GPUs; rows that do not divide by the ranks, and a tied head.
nn::models::Gpt2Config tiny_gpt2() {
  nn::models::Gpt2Config config = small_gpt2();
  config.n_layer = 2;
  config.n_head = 1;
  return config;
}

// How a run spreads its model: null for data parallel.
using Options = std::optional<FullyShardedOptions>;

FullyShardedOptions with(ShardingStrategy strategy) {
  return {.strategy = strategy, .wrap = dist::wrap_class({"Gpt2Block"})};
}

double mean_over_ranks(dist::ProcessGroup& group, double value) {
  const Tensor sum = full({1}, value, f64);
  group.all_reduce(sum, dist::ReduceOp::avg).wait();
  return sum.item<double>();
}

// One rank's model on its device, spread over the ranks, with its optimizer.
struct Training {
  Group group;
  Device device;
  nn::models::Gpt2 model;
  std::unique_ptr<dist::DistributedDataParallel> data_parallel;
  std::unique_ptr<dist::FullySharded> sharded;
  std::unique_ptr<optim::AdamW> optimizer;
  std::vector<double> norms;  // of the gradients, by step

  Training(const Group& group, Place place, const Options& options)
      : group(group),
        device(device_of(place, group->rank())),
        model((manual_seed(group->rank() == 0 ? 3 : 100), tiny_gpt2())) {
    model.to(device);
    if (options)
      sharded = std::make_unique<dist::FullySharded>(model, group, *options);
    else
      data_parallel = std::make_unique<dist::DistributedDataParallel>(
          model, group, dist::DataParallelOptions{.bucket_cap_mb = 0.004});
    optimizer = std::make_unique<optim::AdamW>(
        sharded ? sharded->named_parameters() : model.named_parameters(),
        optim::AdamWOptions{.lr = 3e-3, .weight_decay = 0.1});
  }

  Tensor share(const Tensor& examples) const {
    return to(share_of(slice(examples, 0, 0, 6), group->rank(), group->size()), device);
  }

  double step(int64_t number) {
    const Tensor loss = model.loss(share(tokens_of_step(number)), share(targets_of_step(number)));
    CHECK(loss.device() == device);
    loss.backward();
    norms.push_back(sharded ? sharded->clip_grad_norm(0.05)
                            : optim::clip_grad_norm(optimizer->parameters(), 0.05));
    optimizer->step();
    optimizer->zero_grad();
    return mean_over_ranks(*group, loss.item<double>());
  }

  StateDict weights() {
    StateDict all;
    for (const auto& [name, tensor] : sharded ? sharded->full_state_dict(true) : model.state_dict())
      all[name] = to(tensor, Device::cpu());
    return all;
  }
};

struct Outcome {
  std::vector<double> losses, norms;
  StateDict weights;
};

bool same_weights(const StateDict& a, const StateDict& b) {
  if (a.size() != b.size() || a.empty()) return false;
  for (const auto& [name, tensor] : a)
    if (tensor.to_vector<float>() != b.at(name).to_vector<float>()) return false;
  return true;
}

// Every rank's result, rank 0's returned; all must be equal to the bit.
Outcome run(int size, Place place, const Options& options, int64_t steps = kSteps) {
  std::vector<Outcome> outcomes(static_cast<size_t>(size));
  dist::run_ranks(size, [&](const Group& group) {
    Training training(group, place, options);
    Outcome& mine = outcomes[static_cast<size_t>(group->rank())];
    for (int64_t step = 0; step < steps; ++step) mine.losses.push_back(training.step(step));
    mine.norms = training.norms;
    mine.weights = training.weights();
  });
  for (const Outcome& outcome : outcomes) {
    CHECK(outcome.losses == outcomes[0].losses);
    CHECK(same_weights(outcome.weights, outcomes[0].weights));
  }
  return outcomes[0];
}

}  // namespace

TEST_SUITE("cuda_sharding") {
  TEST_CASE("collectives of tensors on GPUs leave behind what those on the CPU do") {
    if (skipped_without_gpu()) return;
    const OneThreadEach one_thread;
    for (const int size : {1, 2, 3}) {
      CAPTURE(size);
      std::vector<std::vector<std::string>> results(3, std::vector<std::string>(3));
      for (const Place place : {Place::cpu, Place::one_gpu, Place::own_gpu})
        dist::run_ranks(size, [&](const Group& group) {
          results[static_cast<size_t>(place)][static_cast<size_t>(group->rank())] =
              CollectiveScenario(group, device_of(place, group->rank())).run();
        });
      CHECK(results[0][0].size() > 100'000);
      CHECK(results[1] == results[0]);
      CHECK(results[2] == results[0]);
    }
  }

  TEST_CASE("every strategy on GPUs trains as on the CPU") {
    if (skipped_without_gpu()) return;
    const OneThreadEach one_thread;
    const Outcome cpu = run(2, Place::cpu, {});
    CHECK(cpu.losses.back() < 0.97 * cpu.losses.front());
    for (const Options& options : {Options(), Options(with(ShardingStrategy::full_shard)),
                                   Options(with(ShardingStrategy::shard_grad_op)),
                                   Options(with(ShardingStrategy::no_shard))}) {
      CAPTURE(options ? std::string(dist::name(options->strategy)) : "data parallel");
      const Outcome gpu = run(2, Place::own_gpu, options);
      check_near(gpu.losses, cpu.losses, 1e-5);
      check_near(gpu.norms, cpu.norms, 1e-4);
    }
    if (cuda::device_count() == 1) return;
    const Outcome shared = run(2, Place::one_gpu, with(ShardingStrategy::full_shard));
    check_near(shared.losses, cpu.losses, 1e-5);
  }

  TEST_CASE("whole parameters, parts on the host, 16 bits, and groups of copies") {
    if (skipped_without_gpu()) return;
    const OneThreadEach one_thread;
    constexpr int64_t kFew = 4;
    const Outcome cpu = run(2, Place::cpu, {}, kFew);
    FullyShardedOptions whole = with(ShardingStrategy::full_shard);
    whole.partition = dist::Partition::whole;
    check_near(run(2, Place::own_gpu, whole, kFew).losses, cpu.losses, 1e-5);
    FullyShardedOptions offloaded = with(ShardingStrategy::full_shard);
    offloaded.cpu_offload = true;
    check_near(run(2, Place::own_gpu, offloaded, kFew).losses, cpu.losses, 1e-5);
    FullyShardedOptions halves = with(ShardingStrategy::full_shard);
    halves.param_dtype = bf16;
    check_near(run(2, Place::own_gpu, halves, kFew).losses, cpu.losses, 0.02);

    const Outcome three = run(3, Place::cpu, {}, kFew);
    check_near(run(3, Place::own_gpu, with(ShardingStrategy::full_shard), kFew).losses,
               three.losses, 1e-5);
    const Outcome four = run(4, Place::cpu, {}, kFew);
    std::vector<double> losses;
    dist::run_ranks(4, [&](const Group& group) {
      FullyShardedOptions hybrid = with(ShardingStrategy::hybrid_shard);
      hybrid.shard_group = group->split(group->rank() / 2);
      Training training(group, Place::own_gpu, hybrid);
      for (int64_t step = 0; step < kFew; ++step) {
        const double loss = training.step(step);
        if (group->rank() == 0) losses.push_back(loss);
      }
    });
    check_near(losses, four.losses, 1e-5);
  }

  TEST_CASE("norms of gradients on GPUs, also of what is not finite") {
    if (skipped_without_gpu()) return;
    dist::run_ranks(2, [](const Group& group) {
      for (const Place place : gpu_places()) {
        const Device device = device_of(place, group->rank());
        manual_seed(1);
        nn::Linear layer(3, 4, {.bias = false});
        layer.to(device);
        dist::FullySharded fsdp(layer, group);
        Tensor part = fsdp.parameters()[0];  // two rows of four
        CHECK(part.device() == device);
        part.set_grad(full({2, 3}, group->rank() + 1.0, f32, device));
        CHECK(fsdp.grad_norm() == doctest::Approx(std::sqrt(6.0 * 1.0 + 6.0 * 4.0)));
        CHECK(fsdp.grad_norm(INFINITY) == 2.0);
        CHECK(fsdp.clip_grad_norm(1.0) == doctest::Approx(std::sqrt(30.0)));
        CHECK(fsdp.grad_norm() == doctest::Approx(1.0).epsilon(1e-5));
        if (group->rank() == 1) part.set_grad(full({2, 3}, NAN, f32, device));
        CHECK(std::isnan(fsdp.grad_norm()));
        CHECK(std::isnan(fsdp.grad_norm(INFINITY)));
      }
    });
  }

  TEST_CASE("weights leave and enter a model that is sharded on GPUs") {
    if (skipped_without_gpu()) return;
    dist::run_ranks(3, [](const Group& group) {
      const Device device = device_of(Place::own_gpu, group->rank());
      manual_seed(1);
      nn::Linear layer(3, 5);
      const std::vector<float> before = layer.weight().to_vector<float>();
      layer.to(device);
      dist::FullySharded fsdp(layer, group);
      CHECK(fsdp.full_state_dict(true).at("weight").to_vector<float>() == before);
      CHECK(layer.weight().to_vector<float>() == before);  // gathered on demand
      CHECK(fsdp.gathered_bytes() > 0);
      fsdp.reshard();
      CHECK(fsdp.gathered_bytes() == 0);
      const StateDict other = {{"weight", full({5, 3}, 2.0)}, {"bias", full({5}, 3.0)}};
      fsdp.load_full_state_dict(group->rank() == 0 ? other : StateDict{}, true);
      CHECK(fsdp.full_state_dict(true).at("bias").to_vector<float>() ==
            std::vector<float>(5, 3.0f));
      fsdp.load_full_state_dict(
          {{"weight", full({5, 3}, 4.0, f32, device)}, {"bias", full({5}, 5.0, f32, device)}});
      fsdp.restore();
      CHECK(layer.weight().device() == device);
      CHECK(layer.weight().to_vector<float>() == std::vector<float>(15, 4.0f));
      CHECK(layer.bias().to_vector<float>() == std::vector<float>(5, 5.0f));
    });
  }

  TEST_CASE("a sharded checkpoint from GPUs is continued there to the bit, and on the CPU") {
    if (skipped_without_gpu()) return;
    const OneThreadEach one_thread;
    const TemporaryFolder folder;
    const auto stored = [](Training& training) {
      std::vector<dist::ShardedTensor> tensors;
      const StateDict states = training.optimizer->state_dict();
      for (const dist::ShardInfo& info : training.sharded->shards()) {
        tensors.push_back({info.name, info.part, info.shape, info.row_begin});
        for (const char* kind : {".exp_avg", ".exp_avg_sq"})
          tensors.push_back(
              {info.name + kind, states.at(info.name + kind), info.shape, info.row_begin});
      }
      return tensors;
    };
    const Options options = with(ShardingStrategy::full_shard);
    std::vector<double> whole;
    dist::run_ranks(2, [&](const Group& group) {
      Training training(group, Place::own_gpu, options);
      for (int64_t step = 0; step < 2; ++step) training.step(step);
      dist::save_sharded(*group, folder.path() / "saved", stored(training));
      for (int64_t step = 2; step < 4; ++step) {
        const double loss = training.step(step);
        if (group->rank() == 0) whole.push_back(loss);
      }
    });
    for (const auto& [place, size] :
         {std::pair{Place::own_gpu, 2}, {Place::cpu, 2}, {Place::own_gpu, 3}}) {
      CAPTURE(static_cast<int>(place));
      CAPTURE(size);
      std::vector<double> losses;
      dist::run_ranks(size, [&, place = place](const Group& group) {
        Training training(group, place, options);
        for (int64_t step = 0; step < 2; ++step) training.step(step + 50);  // states appear
        const auto checkpoint = dist::ShardedCheckpoint::open(folder.path() / "saved");
        for (const dist::ShardedTensor& tensor : stored(training)) checkpoint.read_into(tensor);
        training.sharded->reshard();
        for (int64_t step = 2; step < 4; ++step) {
          const double loss = training.step(step);
          if (group->rank() == 0) losses.push_back(loss);
        }
      });
      if (place != Place::cpu && size == 2) CHECK(losses == whole);
      check_near(losses, whole, 1e-5);
    }
  }

  TEST_CASE("work of a rank's own stream comes before a collective, and what follows after it") {
    if (skipped_without_gpu()) return;
    dist::run_ranks(2, [](const Group& group) {
      const Device device = device_of(Place::own_gpu, group->rank());
      const cuda::Stream stream(device);
      const cuda::StreamGuard guard(stream);
      for (int round = 0; round < 10; ++round) {
        Tensor x = full({20'000}, round + group->rank(), f32, device);
        for (int i = 0; i < 4; ++i) x = x + 1.0;
        group->all_reduce(x).wait();
        const Tensor y = x * 2.0;
        CHECK(y.to_vector<float>() == std::vector<float>(20'000, 2.0f * (2.0f * round + 9.0f)));
      }
    });
  }

  TEST_CASE("what goes wrong on a GPU is an Error on all ranks") {
    if (skipped_without_gpu()) return;
    std::vector<std::string> messages(2);
    const auto failing = [&](const Group& group) {
      const Device device = device_of(Place::own_gpu, group->rank());
      Tensor x = ones({4, 3}, f32, device);
      const Tensor ids = full({2}, group->rank() == 1 ? 4.0 : 0.0, i64, device);
      messages[static_cast<size_t>(group->rank())] = error_of([&] {
        const Tensor rows = index_select(x, 0, ids);
        group->all_reduce(rows).wait();
        group->barrier().wait();
      });
      fail("stopped");
    };
    CHECK_THROWS_AS(dist::run_ranks(2, failing), Error);
    // The fault is the GPU's: of two ranks that share it, the first that waits for it hears of it.
    const bool shared = device_of(Place::own_gpu, 0) == device_of(Place::own_gpu, 1);
    CHECK(contains_text(messages[1] + (shared ? messages[0] : ""), "got 4"));
    for (const std::string& message : messages) CHECK_FALSE(message.empty());

    dist::run_ranks(2, [](const Group& group) {
      const Device gpu = device_of(Place::own_gpu, group->rank());
      const std::string message = error_of([&] {
        group->all_reduce({ones({2}, f32, gpu), ones({2})}).wait();
      });
      CHECK(contains_text(message, "must be on one device"));
    });
  }
}
