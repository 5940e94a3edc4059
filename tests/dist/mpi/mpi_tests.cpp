// Run by mpirun on some processes; ctest's mpi_* are this program.
//
//   mpi_tests collectives   the same bits as between threads; exit status 0 when all is well
//   mpi_tests timeout       rank 1 does not come; the others print what they are told
//   mpi_tests throw         rank 1 leaves with an exception; likewise
#include <chrono>
#include <cstdio>
#include <string>
#include <thread>

#include <tendril/dist/in_process.h>
#include <tendril/dist/mpi/mpi_group.h>

#include "dist/collective_scenario.h"

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

int collectives() {
  // 1000: most tensors of the scenario travel in several messages.
  const auto group = mpi_process_group(with_timeout(60s), 1000);
  check(std::string(group->backend()) == "mpi", group->rank(), "the backend has another name");
  const std::string results = testing::CollectiveScenario(group).run();
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
  int total = 0;  // every rank reports what any has found
  const Tensor sum = full({1}, failures, i64);
  group->all_reduce(sum).wait();
  total = static_cast<int>(sum.item<int64_t>());
  if (group->rank() == 0 && total == 0) std::printf("%d ranks agree\n", group->size());
  return total == 0 ? 0 : 1;
}

// Prints what an operation that waits for rank 1 says, and stays until the others have as well:
// mpirun ends all processes when one has left after a fault.
int faults(bool by_exception) {
  try {
    const auto group = mpi_process_group(with_timeout(by_exception ? 60'000ms : 1500ms));
    group->set_step(5);
    group->all_reduce(ones({3000})).wait();
    if (group->rank() == 1) {
      if (by_exception) fail("[my model] out of luck");
      std::this_thread::sleep_for(3s);
    }
    group->barrier().wait();
    std::printf("the barrier was passed\n");
  } catch (const Error& error) {
    std::printf("%s\n", error.what());
    std::fflush(stdout);
    std::this_thread::sleep_for(1s);
  }
  return 1;
}

}  // namespace

int main(int count, char** arguments) {
  const std::string mode = count > 1 ? arguments[1] : "collectives";
  return mode == "collectives" ? collectives() : faults(mode == "throw");
}
