#include <tendril/dist/in_process.h>

#include <exception>
#include <mutex>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include <tendril/dist/host/host_group.h>
#include <tendril/dist/host/in_process_transport.h>

namespace tendril::dist {
namespace {

// What the first rank to fail threw.
class FirstFailure {
 public:
  void keep(std::exception_ptr exception) {
    const std::lock_guard lock(mutex_);
    if (!exception_) exception_ = std::move(exception);
  }
  void rethrow() const {
    if (exception_) std::rethrow_exception(exception_);
  }

 private:
  std::mutex mutex_;
  std::exception_ptr exception_;
};

}  // namespace

void run_ranks(int size, const std::function<void(const std::shared_ptr<ProcessGroup>&)>& body,
               const InProcessOptions& options) {
  TENDRIL_CHECK(size >= 1, "[run_ranks] needs at least one rank; got ", size);
  const auto hall = std::make_shared<InProcessHall>(options);
  std::vector<int> numbers(static_cast<size_t>(size));
  std::iota(numbers.begin(), numbers.end(), 0);
  const auto table = std::make_shared<InProcessTable>(hall, numbers);

  FirstFailure failure;
  const auto run = [&](int rank) {
    try {
      const std::shared_ptr<ProcessGroup> group =
          HostGroup::create([&] { return std::make_unique<InProcessTransport>(table, rank); });
      try {
        body(group);
      } catch (const std::exception& exception) {
        failure.keep(std::current_exception());
        group->abort(detail::concat("rank ", rank, " stopped: ", exception.what()));
      } catch (...) {
        failure.keep(std::current_exception());
        group->abort(detail::concat("rank ", rank, " stopped"));
      }
    } catch (...) {  // no thread, no memory
      failure.keep(std::current_exception());
      hall->abort(detail::concat("rank ", rank, " could not start"));
    }
  };
  std::vector<std::thread> threads;
  try {
    for (int rank = 0; rank < size; ++rank) threads.emplace_back(run, rank);
  } catch (...) {
    failure.keep(std::current_exception());
    hall->abort("there are not enough threads for all ranks");
  }
  for (std::thread& thread : threads) thread.join();
  failure.rethrow();
}

}  // namespace tendril::dist
