#include <tendril/dist/store/monitor.h>

#include <unistd.h>

#include <algorithm>
#include <future>

#include <tendril/core/log.h>
#include <tendril/dist/store/store_address.h>

namespace tendril::dist {
namespace {

using std::chrono::milliseconds;

constexpr auto kFailure = "monitor/failure";
constexpr int kTicksBetweenSigns = 5;  // of life, when there is nothing else to tell
constexpr int kTicksOfSilence = 15;    // after which a rank counts as hung
constexpr milliseconds kTimeToConnect{5 * 60'000};

std::string status_key(int rank) { return "monitor/status/" + std::to_string(rank); }

// A sink that hangs must not keep the process alive.
[[noreturn]] void log_and_exit(const std::string& message) {
  std::promise<void> logged;
  std::thread([&] {
    log_message(LogLevel::error, message);
    logged.set_value();
  }).detach();
  logged.get_future().wait_for(std::chrono::seconds(1));
  ::_exit(1);
}

}  // namespace

std::shared_ptr<Monitor> start_monitor(MonitorOptions options) {
  return std::make_shared<Monitor>(std::move(options));
}

Monitor::Monitor(MonitorOptions options) : options_(std::move(options)) {
  const auto deadline = Clock::now() + std::min(options_.timeout, kTimeToConnect);
  address_ = options_.address;
  std::string description;
  if (options_.exchange) address_ = {"", 0, make_token()};
  if (options_.rank == 0) {
    server_ = std::make_unique<StoreServer>(address_.host, address_.port, address_.token);
    address_.port = server_->port();
    description = describe_address(address_.port, address_.token);
  }
  if (options_.exchange) address_ = find_store(options_.exchange(description), deadline);
  store_ = std::make_unique<Store>(address_, deadline, options_.timeout);
  // The connection tells of this rank's end from here on.
  tell(*store_);
  thread_ = std::thread([this] { run(); });
}

Monitor::~Monitor() {
  bool has_failed = false;
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
    has_failed = !failure_.empty();
    store_->interrupt();
    changed_.notify_all();
  }
  thread_.join();
  store_.reset();
  if (server_)
    server_->wait_until_alone(Clock::now() + (has_failed ? milliseconds(1000) : options_.grace));
}

void Monitor::enter(std::string label, int64_t number, std::vector<int> ranks) {
  set_activity({std::move(label), number, std::move(ranks), true, Clock::now()});
}

void Monitor::leave() {
  const std::lock_guard lock(mutex_);
  activity_.is_inside = false;
  activity_.since = Clock::now();
}

void Monitor::set_activity(Activity activity) {
  const std::lock_guard lock(mutex_);
  activity_ = std::move(activity);
}

void Monitor::report(const std::string& what) {
  const std::lock_guard lock(mutex_);
  if (has_reported_ || !failure_.empty()) return;
  has_reported_ = true;
  report_ = RankStatus::of(options_.rank, activity_).who() + " failed: " + what;
  store_->interrupt();
}

std::string Monitor::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

std::unique_ptr<Store> Monitor::connect() const {
  return std::make_unique<Store>(address_, Clock::now() + kTimeToConnect, options_.timeout);
}

bool Monitor::is_stopping() const {
  const std::lock_guard lock(mutex_);
  return is_stopping_;
}

Activity Monitor::activity() const {
  const std::lock_guard lock(mutex_);
  return activity_;
}

// ---------------------------------------------------------------- the thread

void Monitor::run() {
  try {
    watch(*store_);
  } catch (const ConnectionLost& lost) {
    if (!lost.is_orderly() && !is_stopping()) fail(rank_zero_is_gone());
  } catch (const Error& error) {
    fail(error.what());
  }
}

void Monitor::watch(Store& store) {
  while (!is_stopping()) {
    try {
      if (options_.poll) options_.poll(*this);
    } catch (const std::exception& error) {
      report(error.what());
    }
    send_report(store);
    tell(store);
    look_for_timeout(store);
    const auto failure = store.get(kFailure, options_.tick);
    if (failure) return fail(failure->value);
  }
  send_report(store);
  store.will(kFailure, "");
}

void Monitor::send_report(Store& store) {
  std::string text;
  {
    const std::lock_guard lock(mutex_);
    text.swap(report_);
  }
  if (!text.empty()) store.set_once(kFailure, text);
}

// The will is what the others read should this process end before its next word.
void Monitor::tell(Store& store) {
  const RankStatus status = RankStatus::of(options_.rank, activity());
  const std::string notice = status.end_notice();
  const bool is_news = notice != told_;
  if (is_news) store.will(kFailure, notice);
  told_ = notice;
  const bool is_due = ticks_++ % kTicksBetweenSigns == 0;
  if (is_news || is_due) store.set(status_key(options_.rank), status.json());
  if (!is_due || options_.rank == 0) return;
  if (const auto found = store.get(status_key(0), milliseconds(0)))
    rank_zero_ = RankStatus::parse(found->value);
}

void Monitor::look_for_timeout(Store& store) {
  const Activity own = activity();
  if (!own.is_inside || has_timed_out_ || Clock::now() - own.since < options_.timeout) return;
  has_timed_out_ = true;
  std::vector<int> ranks = own.ranks;
  if (ranks.empty())
    for (int rank = 0; rank < options_.size; ++rank) ranks.push_back(rank);
  std::vector<std::pair<RankStatus, milliseconds>> others;
  for (const int rank : ranks) {
    if (rank == options_.rank) continue;
    const auto found = store.get(status_key(rank), milliseconds(0));
    RankStatus status;
    status.rank = rank;
    if (found) status = RankStatus::parse(found->value);
    others.emplace_back(std::move(status), found ? found->age : milliseconds(0));
  }
  store.set_once(kFailure, timeout_notice(RankStatus::of(options_.rank, own), options_.timeout,
                                          kTicksOfSilence * options_.tick, others));
}

std::string Monitor::rank_zero_is_gone() const {
  if (rank_zero_.host.empty()) return "rank 0 has ended or cannot be reached";
  return rank_zero_.who() + " has ended or cannot be reached" + rank_zero_.last_operation();
}

// Ends the process unless it goes on to destroy this within the grace. The engine aborts in a
// thread of its own, because that may hang as well.
void Monitor::fail(const std::string& reason) {
  const auto deadline = Clock::now() + options_.grace;
  bool has_aborted = !options_.abort;
  {
    const std::lock_guard lock(mutex_);
    failure_ = reason;
  }
  std::thread abort;
  if (options_.abort)
    abort = std::thread([&] {
      options_.abort(reason);
      const std::lock_guard lock(mutex_);
      has_aborted = true;
      changed_.notify_all();
    });
  std::unique_lock lock(mutex_);
  const bool is_over =
      changed_.wait_until(lock, deadline, [&] { return is_stopping_ && has_aborted; });
  const std::string message =
      "[dist] " + reason + "; this process (rank " + std::to_string(options_.rank) + ", in " +
      (activity_.label.empty() ? "no operation" : activity_.label) + ") hangs and is ended";
  lock.unlock();
  if (!is_over && options_.end_process) options_.end_process(message);
  if (!is_over && !options_.end_process) log_and_exit(message);
  if (abort.joinable()) abort.join();
}

}  // namespace tendril::dist
