// Run by mpirun on some processes; ctest's mpi_* are this program.
//
//   mpi_tests collectives   the same bits as between threads; exit status 0 when all is well
//   mpi_tests gpus          the same of tensors on GPUs, and sharded training there
//   mpi_tests timeout       rank 1 does not come; the others print what they are told
//   mpi_tests throw         rank 1 leaves with an exception; likewise
#include <chrono>
#include <cmath>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include <tendril/core/cuda.h>
#include <tendril/dist/in_process.h>
#include <tendril/dist/mpi/mpi_group.h>
#include <tendril/dist/store/store.h>
#include <tendril/dist/store/store_server.h>

#include "dist/collective_scenario.h"
#include "dist/dist_tools.h"

using namespace tendril;
using namespace tendril::dist;
using namespace std::chrono_literals;

namespace {

int failures = 0;

InitOptions with_timeout(std::chrono::milliseconds timeout) {
  InitOptions options;
  options.timeout = timeout;
  return options;
}

void check(bool condition, int rank, const std::string& what) {
  if (condition) return;
  std::printf("rank %d: %s\n", rank, what.c_str());
  ++failures;
}

void compare_collectives(const std::shared_ptr<ProcessGroup>& group, Device device) {
  const std::string results = testing::CollectiveScenario(group, device).run();
  check(results.size() > 1'000'000, group->rank(), "the scenario has no results");
  run_ranks(group->size(), [&](const std::shared_ptr<ProcessGroup>& threads) {
    const std::string expected = testing::CollectiveScenario(threads).run();
    if (threads->rank() != group->rank()) return;
    check(results == expected, group->rank(), "other bits than between threads");
    for (int i = 0; i < static_cast<int>(Collective::count); ++i) {
      const auto collective = static_cast<Collective>(i);
      check(group->traffic(collective).sent_bytes == threads->traffic(collective).sent_bytes,
            group->rank(),
            std::string("other traffic than between threads in ") + name(collective));
    }
  });
}

// What one rank of `group` has after some sharded steps on the device: losses, then weights.
std::vector<double> train(const std::shared_ptr<ProcessGroup>& group, Device device) {
  manual_seed(3);
  nn::models::Gpt2Config config = testing::small_gpt2();
  config.n_layer = 1;  // an emulated GPU is slow
  nn::models::Gpt2 model(config);
  model.to(device);
  FullySharded sharded(model, group, {.wrap = wrap_class({"Gpt2Block"})});
  optim::AdamW optimizer(sharded.named_parameters(), {.lr = 3e-3});
  std::vector<double> results;
  const auto share = [&](const Tensor& examples) {
    return to(testing::share_of(slice(examples, 0, 0, 4), group->rank(), group->size()), device);
  };
  for (int64_t step = 0; step < 10; ++step) {
    const Tensor loss =
        model.loss(share(testing::tokens_of_step(step)), share(testing::targets_of_step(step)));
    loss.backward();
    sharded.clip_grad_norm(0.05);
    optimizer.step();
    optimizer.zero_grad();
    results.push_back(loss.item<double>());
  }
  return results;
}

void compare_training(const std::shared_ptr<ProcessGroup>& group, Device device) {
  const std::vector<double> here = train(group, device);
  run_ranks(group->size(), [&](const std::shared_ptr<ProcessGroup>& threads) {
    const std::vector<double> expected = train(threads, Device::cpu());
    if (threads->rank() != group->rank()) return;
    for (size_t i = 0; i < here.size(); ++i)
      check(std::abs(here[i] - expected[i]) <= 1e-5 * expected[i], group->rank(),
            "other losses than on the CPU");
  });
}

int agree(const std::shared_ptr<ProcessGroup>& group) {
  const Tensor sum = full({1}, failures, i64);  // every rank reports what any has found
  group->all_reduce(sum).wait();
  const auto total = sum.item<int64_t>();
  if (group->rank() == 0 && total == 0) std::printf("%d ranks agree\n", group->size());
  return total == 0 ? 0 : 1;
}

int collectives() {
  // 1000: most tensors of the scenario travel in several messages.
  const auto group = mpi_process_group(with_timeout(60s), 1000);
  check(std::string(group->backend()) == "mpi", group->rank(), "the backend has another name");
  compare_collectives(group, Device::cpu());
  return agree(group);
}

int gpus() {
  const auto group = mpi_process_group(with_timeout(60s));
  if (!cuda::is_available()) {
    std::printf("there is no GPU\n");
    return 1;
  }
  const Device device = Device::cuda(group->rank() % cuda::device_count());
  set_num_threads(1);
  compare_collectives(group, device);
  compare_training(group, device);
  return agree(group);
}

// Counts the ranks that have come to a point; goes on when the group has failed.
class Board {
 public:
  explicit Board(const std::shared_ptr<ProcessGroup>& group) {
    if (group->rank() == 0) server_ = std::make_unique<StoreServer>("127.0.0.1", 0);
    const Tensor port = full({1}, server_ ? server_->port() : 0, i64);
    group->all_reduce(port).wait();
    const StoreAddress address{"127.0.0.1", static_cast<int>(port.item<int64_t>())};
    store_ = std::make_unique<Store>(address, Clock::now() + 60s);
  }
  void count_one(const std::string& point) { store_->add(point, 1); }
  void wait_for(const std::string& point, int count) {
    while (store_->add(point, 0) < count) std::this_thread::sleep_for(10ms);
  }

 private:
  std::unique_ptr<StoreServer> server_;
  std::unique_ptr<Store> store_;
};

// Prints what an operation that waits for rank 1 says, and stays until the others have as well:
// mpirun ends all processes when one has left after a fault.
int faults(bool by_exception) {
  std::optional<Board> board;
  try {
    const auto group = mpi_process_group(with_timeout(by_exception ? 60'000ms : 3000ms));
    board.emplace(group);
    group->set_step(5);
    group->all_reduce(ones({3000})).wait();
    if (group->rank() == 1) {
      if (by_exception) fail("[my model] out of luck");
      board->wait_for("failed", 2);
    }
    try {
      group->barrier().wait();
      std::printf("the barrier was passed\n");
    } catch (const Error&) {
      board->count_one("failed");  // the group's end waits for rank 1
      throw;
    }
  } catch (const Error& error) {
    std::printf("%s\n", error.what());
    std::fflush(stdout);
  }
  try {
    if (board) board->count_one("printed");
    if (board) board->wait_for("printed", 3);
  } catch (const Error&) {  // rank 0 has left: all have printed
  }
  return 1;
}

}  // namespace

int main(int count, char** arguments) {
  const std::string mode = count > 1 ? arguments[1] : "collectives";
  if (mode == "gpus") return gpus();
  return mode == "collectives" ? collectives() : faults(mode == "throw");
}
