// Speed of collectives: between threads, and between processes beside MPI's own.
//
//   bench_collectives                        2 and 4 ranks that are threads
//   mpirun -n 4 bench_collectives mpi        4 processes; needs a build with MPI
//
// A line is the median of interleaved rounds; GB/s are n bytes of the whole tensor over that time.
#include <tendril/core/creation.h>
#include <tendril/dist/in_process.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#ifdef TENDRIL_BENCH_MPI
#include <mpi.h>
#include <tendril/dist/mpi/mpi_group.h>
#endif

using namespace tendril;
using namespace tendril::dist;

namespace {

struct Contender {
  std::string name;
  std::function<void()> run;
};

double seconds_of(const std::function<void()>& run) {
  const auto start = std::chrono::steady_clock::now();
  run();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// All ranks call it; rank 0 prints. The first contender is ours.
void compare(ProcessGroup& group, const std::string& operation, int64_t bytes,
             const std::vector<Contender>& contenders) {
  const int rounds = bytes > (1 << 22) ? 15 : 50, warmup = 3;
  std::vector<std::vector<double>> seconds(contenders.size());
  for (int round = -warmup; round < rounds; ++round)
    for (size_t i = 0; i < contenders.size(); ++i) {
      group.barrier().wait();
      const double time = seconds_of(contenders[i].run);
      if (round >= 0) seconds[i].push_back(time);
    }
  if (group.rank() != 0) return;
  double first = 0.0;
  for (size_t i = 0; i < contenders.size(); ++i) {
    const auto middle = seconds[i].begin() + rounds / 2;
    std::nth_element(seconds[i].begin(), middle, seconds[i].end());
    if (i == 0) first = *middle;
    std::printf("%-15s %9lld bytes  %d ranks  %-10s %10.1f us %8.3f GB/s", operation.c_str(),
                static_cast<long long>(bytes), group.size(), contenders[i].name.c_str(),
                *middle * 1e6, static_cast<double>(bytes) / *middle * 1e-9);
    if (i > 0) std::printf("  ours/theirs in time: %.2f", first / *middle);
    std::printf("\n");
  }
  std::fflush(stdout);
}

void bench(ProcessGroup& group, [[maybe_unused]] bool with_mpi) {
  for (const int64_t bytes :
       {int64_t{1} << 12, int64_t{1} << 16, int64_t{1} << 20, int64_t{1} << 24, int64_t{1} << 26}) {
    const int64_t count = bytes / 4, share = count / group.size();
    const Tensor whole = zeros({share * group.size()}), part = zeros({share});
    const std::vector<int64_t> counts(static_cast<size_t>(group.size()), share);
    const std::string backend = group.backend();
    std::vector<Contender> all_reduce = {{backend, [&] { group.all_reduce(whole).wait(); }}};
    std::vector<Contender> reduce_scatter = {
        {backend, [&] {
           group.reduce_scatter({{whole, part, counts}}).wait();
         }}};
    std::vector<Contender> all_gather = {{backend, [&] {
                                            group.all_gather({{whole, part, counts}}).wait();
                                          }}};
#ifdef TENDRIL_BENCH_MPI
    // The group's own thread does not call MPI while nothing is queued.
    const int n = static_cast<int>(whole.numel()), m = static_cast<int>(share);
    if (with_mpi) {
      all_reduce.push_back({"MPI's", [&] {
                              MPI_Allreduce(MPI_IN_PLACE, whole.raw_data(), n, MPI_FLOAT, MPI_SUM,
                                            MPI_COMM_WORLD);
                            }});
      reduce_scatter.push_back({"MPI's", [&] {
                                  MPI_Reduce_scatter_block(whole.raw_data(), part.raw_data(), m,
                                                           MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
                                }});
      all_gather.push_back({"MPI's", [&] {
                              MPI_Allgather(part.raw_data(), m, MPI_FLOAT, whole.raw_data(), m,
                                            MPI_FLOAT, MPI_COMM_WORLD);
                            }});
    }
#endif
    compare(group, "all_reduce", bytes, all_reduce);
    compare(group, "reduce_scatter", bytes, reduce_scatter);
    compare(group, "all_gather", bytes, all_gather);
  }
}

}  // namespace

int main(int count, char** arguments) {
  if (count > 1 && std::string(arguments[1]) == "mpi") {
#ifdef TENDRIL_BENCH_MPI
    bench(*mpi_process_group({}), true);
    return 0;
#else
    std::fprintf(stderr, "This build has no MPI.\n");
    return 1;
#endif
  }
  for (const int ranks : {2, 4})
    run_ranks(ranks, [](const std::shared_ptr<ProcessGroup>& group) { bench(*group, false); });
  return 0;
}
