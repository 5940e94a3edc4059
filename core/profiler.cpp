// Frames on each thread's stack become rows in each thread's log; a session is a window on the
// logs.

#include <tendril/core/profiler.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <set>

#include <tendril/core/cuda/memory.h>
#include <tendril/core/profile_log.h>

namespace tendril {
namespace detail {

std::atomic<int> profile_state{kProfileUnread};
constinit thread_local uint64_t operations_begun = 0;

void read_environment();

namespace {

constexpr size_t kMaxEvents = 1'000'000;  // per thread: 40 MB

// Rows and events while a session lives. Never destroyed: threads may end after the statics are
// gone.
struct Registry {
  std::mutex mutex;
  ThreadLogs logs;
  int next_log_id = 1;
  std::vector<const ProfilerOptions*> active;
  ProfileSink sink;

  // Called with the mutex held.
  void publish_state() const {
    int state = active.empty() ? 0 : kProfileOn;
    for (const ProfilerOptions* options : active) {
      if (options->shapes) state |= kProfileShapes;
      if (!options->trace_file.empty()) state |= kProfileTrace;
    }
    profile_state.store(state, std::memory_order_relaxed);
  }
};

Registry& registry() {
  static Registry* const instance = new Registry;
  return *instance;
}

int64_t now_ns() {
  using std::chrono::steady_clock;
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             steady_clock::now().time_since_epoch())
      .count();
}

// The calling thread's log; null before its first frame. A plain pointer, so that it is good to the
// thread's last instruction; the registry owns what it points to.
thread_local ThreadLog* thread_log = nullptr;

ThreadLog& make_thread_log() {
  // The second owner, which tells that the thread lives.
  thread_local std::shared_ptr<ThreadLog> alive;
  alive = std::make_shared<ThreadLog>();
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  alive->id = all.next_log_id++;
  all.logs.push_back(alive);
  thread_log = alive.get();
  return *alive;
}

Frame* innermost() {
  return thread_log && !thread_log->frames.empty() ? &thread_log->frames.back() : nullptr;
}

// Zero strides are read once.
int64_t touched_bytes(const Tensor& x) {
  if (!x.defined()) return 0;
  int64_t count = size_of(x.dtype());
  for (int64_t axis = 0; axis < x.rank(); ++axis)
    if (x.strides()[axis] != 0 || x.shape()[axis] == 0) count *= x.shape()[axis];
  return count;
}

// These read as many elements as they give, out of a larger input.
bool reads_selected_rows(Op op) {
  return op == Op::embedding || op == Op::index_select || op == Op::gather;
}

std::string describe(std::span<const Tensor> tensors) {
  std::string text;
  for (const Tensor& x : tensors) {
    if (!x.defined()) continue;
    if (!text.empty()) text += ", ";
    text += concat(x.dtype(), " ", x.shape());
  }
  return text;
}

// A view of an input moves nothing.
void note_traffic(Frame& frame, std::span<const Tensor> inputs, std::span<const Tensor> outputs) {
  const auto is_view = [&](const Tensor& output) {
    return std::any_of(inputs.begin(), inputs.end(), [&](const Tensor& input) {
      return input.defined() && input.storage() == output.storage();
    });
  };
  bool any = false;
  for (const Tensor& output : outputs) {
    if (!output.defined() || is_view(output)) continue;
    any = true;
    frame.bytes += touched_bytes(output);
  }
  if (any)
    for (const Tensor& input : inputs) frame.bytes += touched_bytes(input);
}

void write_down(ThreadLog& log, const Frame& frame, int64_t duration_ns) {
  const auto same_name = [&](const Frame& outer) {
    return outer.key.kind == frame.key.kind && outer.key.label == frame.key.label;
  };
  const bool outermost = std::none_of(log.frames.begin(), log.frames.end(), same_name);
  const bool composite = frame.children_ns > 0;  // then what runs inside counts its own work
  const int64_t flops = composite ? 0 : frame.flops, bytes = composite ? 0 : frame.bytes;
  const std::lock_guard lock(log.mutex);
  const auto row = log.rows.try_emplace(frame.key).first;
  row->second += {1, outermost ? duration_ns : 0, duration_ns - frame.children_ns, flops, bytes};
  if (!(profile_state.load(std::memory_order_relaxed) & kProfileTrace)) return;
  if (log.events.size() < kMaxEvents)
    log.events.push_back({&row->first, frame.start_ns, duration_ns, flops, bytes});
  else
    ++log.dropped_events;
}

}  // namespace

// ---------------------------------------------------------------- frames

namespace {
// A GPU works later than the host asks: its time counts where it was asked for only if the host
// waits.
void wait_for_devices() {
#ifdef TENDRIL_WITH_CUDA
  cuda::wait_for_started_devices();
#endif
}
}  // namespace

bool begin_frame(ProfileKind kind, std::string_view label) {
  read_environment();
  if (!profiling()) return false;
  ThreadLog& log = thread_log ? *thread_log : make_thread_log();
  log.frames.push_back({{kind, std::string(label), {}}});
  wait_for_devices();
  log.frames.back().start_ns = now_ns();
  return true;
}

void end_frame() {
  wait_for_devices();
  const int64_t end = now_ns();
  const Frame frame = std::move(thread_log->frames.back());
  thread_log->frames.pop_back();
  const bool named = !frame.key.label.empty();
  const int64_t duration = end - frame.start_ns;
  if (Frame* outer = innermost()) outer->children_ns += named ? duration : frame.children_ns;
  if (named) write_down(*thread_log, frame, duration);
}

void note_op(Op op, std::span<const Tensor> inputs, std::span<const Tensor> outputs) {
  Frame* frame = innermost();
  // Inside a backward function or a user's range an operation without a timer is part of that.
  if (!frame || frame->key.kind != ProfileKind::forward) return;
  frame->key.label = name(op);
  if (reads_selected_rows(op))
    frame->bytes += 2 * touched_bytes(outputs[0]);
  else
    note_traffic(*frame, inputs, outputs);
  if (profile_state.load(std::memory_order_relaxed) & kProfileShapes)
    frame->key.shapes = describe(inputs);
}

void note_gradients(std::span<const Tensor> output_grads, std::span<const Tensor> input_grads) {
  Frame* frame = innermost();
  if (!frame) return;
  note_traffic(*frame, output_grads, input_grads);
  if (profile_state.load(std::memory_order_relaxed) & kProfileShapes)
    frame->key.shapes = concat(describe(output_grads), " -> ", describe(input_grads));
}

void note_bytes(const Tensor& tensor) {
  if (Frame* frame = innermost()) frame->bytes += touched_bytes(tensor);
}

void note_flops(int64_t count) {
  if (Frame* frame = innermost()) frame->flops += count;
}

int64_t noted_flops() {
  const Frame* frame = innermost();
  return frame ? frame->flops : 0;
}

}  // namespace detail

// ---------------------------------------------------------------- sessions

namespace {

using namespace detail;

// Called by destructors: what a sink throws ends here.
void emit(const std::string& text) {
  ProfileSink sink;
  {
    const std::lock_guard lock(registry().mutex);
    sink = registry().sink;
  }
  try {
    if (sink)
      sink(text);
    else
      std::fwrite(text.data(), 1, text.size(), stderr);
  } catch (...) {
  }
}

// Called with the registry's mutex held; visits the logs one by one, each locked.
template <class Visit>
void for_each_log(Visit visit) {
  for (const auto& log : registry().logs) {
    const std::lock_guard lock(log->mutex);
    visit(*log);
  }
}

}  // namespace

class ProfileSession {
 public:
  explicit ProfileSession(ProfilerOptions options) : options_(std::move(options)) {
    Registry& all = registry();
    const std::lock_guard lock(all.mutex);
    if (all.active.empty()) forget_everything(all);
    before_ = collect();
    begin_ns_ = now_ns();
    all.active.push_back(&options_);
    all.publish_state();
  }

  ~ProfileSession() {
    {
      Registry& all = registry();
      const std::lock_guard lock(all.mutex);
      std::erase(all.active, &options_);
      all.publish_state();
    }
    try {
      if (!reported_) emit(report().table());
      if (!options_.trace_file.empty()) write_trace_file();
    } catch (const std::exception& error) {
      emit(concat("[profiler] ", error.what(), "\n"));
    }
  }
  ProfileSession(const ProfileSession&) = delete;
  ProfileSession& operator=(const ProfileSession&) = delete;

  Profile report() {
    reported_ = true;
    const std::lock_guard lock(registry().mutex);
    Window now = collect();
    for (const auto& [key, counts] : before_.rows) now.rows[key] -= counts;
    std::erase_if(now.rows, [](const auto& row) { return row.second.calls == 0; });
    Profile profile = make_profile(now.rows, options_.shapes);
    profile.wall_seconds = static_cast<double>(now_ns() - begin_ns_) * 1e-9;
    for (const auto& [id, calls] : now.calls_of_thread)
      if (calls > before_.calls_of_thread[id]) ++profile.threads;
    if (!options_.trace_file.empty())
      profile.dropped_events = now.dropped_events - before_.dropped_events;
    return profile;
  }

 private:
  // All that has been counted since everything was last forgotten.
  struct Window {
    ProfileRows rows;
    std::map<int, int64_t> calls_of_thread;
    int64_t dropped_events = 0;
  };

  static Window collect() {
    Window window;
    for_each_log([&](const ThreadLog& log) {
      for (const auto& [key, counts] : log.rows) {
        window.rows[key] += counts;
        window.calls_of_thread[log.id] += counts.calls;
      }
      window.dropped_events += log.dropped_events;
    });
    return window;
  }

  static void forget_everything(Registry& all) {
    std::erase_if(all.logs, [](const auto& log) {
      return log.use_count() == 1;
    });  // their threads have ended
    for_each_log([](ThreadLog& log) {
      log.events.clear();
      log.rows.clear();
      log.dropped_events = 0;
    });
  }

  void write_trace_file() const {
    const std::lock_guard lock(registry().mutex);
    write_trace(options_.trace_file, registry().logs, begin_ns_);
  }

  ProfilerOptions options_;
  int64_t begin_ns_ = 0;
  Window before_;
  bool reported_ = false;
};

namespace detail {

// TENDRIL_PROFILE, a list of words separated by commas; its session lasts until the program ends.
static std::optional<ProfilerOptions> environment_options() {
  const char* variable = std::getenv("TENDRIL_PROFILE");
  const std::string text = variable ? variable : "";
  if (text.empty() || text == "0") return {};
  ProfilerOptions options;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const std::string word = text.substr(begin, end - begin);
    if (word == "shapes") options.shapes = true;
    if (word.ends_with(".json")) options.trace_file = word;
    begin = end + 1;
  }
  return options;
}

void read_environment() {
  if (!(profile_state.load(std::memory_order_relaxed) & kProfileUnread)) return;
  static std::optional<ProfileSession> whole_program;
  static std::once_flag once;
  std::call_once(once, [] {
    if (std::optional<ProfilerOptions> options = environment_options())
      whole_program.emplace(*std::move(options));
    else
      profile_state.store(0, std::memory_order_relaxed);
  });
}

}  // namespace detail

ProfilerScope::ProfilerScope(ProfilerOptions options) {
  read_environment();
  session_ = std::make_unique<ProfileSession>(std::move(options));
}

ProfilerScope::~ProfilerScope() = default;

Profile ProfilerScope::report() { return session_->report(); }

void set_profile_sink(ProfileSink sink) {
  const std::lock_guard lock(registry().mutex);
  registry().sink = std::move(sink);
}

}  // namespace tendril
