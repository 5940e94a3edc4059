#include <tendril/dist/mpi/mpi_runtime.h>

#include <mpi.h>
#include <sys/prctl.h>

#include <algorithm>
#include <numeric>
#include <thread>

#include <tendril/core/error.h>
#include <tendril/dist/host/rank_names.h>

namespace tendril::dist::mpi {
namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr size_t kReasonBytes = 1000;  // short enough that MPI sends it without the receiver's help
constexpr auto kAnnounceTime = 1s;     // for reaching the others

// Between two looks at what has come: a few at once, then with sleeps of 1/32 of the time waited so
// far, at most half a millisecond. Processes that share cores with others must not burn them, and
// yielding does not help: a sleeper gets the processor back sooner than one that has yielded.
class Pause {
 public:
  void take() {
    if (++rounds_ <= 30) return;
    const Clock::duration waited = Clock::now() - start_;
    std::this_thread::sleep_for(std::clamp<Clock::duration>(waited / 32, 2us, 500us));
  }
  void reset() { rounds_ = 0, start_ = Clock::now(); }

 private:
  int rounds_ = 0;
  Clock::time_point start_ = Clock::now();
};

std::string text_of(int code) {
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(code, text, &length);
  return {text, static_cast<size_t>(length)};
}

}  // namespace

struct Runtime::Member {
  MPI_Comm handle = MPI_COMM_NULL;
  int rank = 0;
  std::vector<int> world_ranks;
};

struct Runtime::Handles {
  std::vector<Member> members;  // by Communicator
  MPI_Comm faults = MPI_COMM_NULL;
};

// One call of exchange(): its requests, and who they are for.
class Runtime::Exchange {
 public:
  Exchange(Runtime& runtime, Communicator communicator, const std::string& label, int tag)
      : runtime_(runtime), communicator_(communicator), label_(label), tag_(tag) {}
  ~Exchange() { give_up(); }

  void send(const Message<ConstBytes>& message) {
    each_part(message, [&](const std::byte* data, int count, MPI_Request* request) {
      return MPI_Isend(data, count, MPI_BYTE, message.peer, tag_, comm(), request);
    });
    expected_.resize(requests_.size(), -1);
  }
  void receive(const Message<Bytes>& message) {
    each_part(message, [&](std::byte* data, int count, MPI_Request* request) {
      expected_.push_back(count);
      return MPI_Irecv(data, count, MPI_BYTE, message.peer, tag_, comm(), request);
    });
  }
  void finish();

 private:
  MPI_Comm comm() const { return runtime_.handles_->members[communicator_].handle; }
  void each_part(const auto& message, const auto& start);
  void complete(int index, const MPI_Status& status);
  std::vector<int> missing() const;
  void give_up();

  Runtime& runtime_;
  const Communicator communicator_;
  const std::string& label_;
  const int tag_;
  std::vector<MPI_Request> requests_;
  std::vector<int> peers_, expected_;  // of each request; expected bytes, -1 for what is sent
};

void Runtime::Exchange::each_part(const auto& message, const auto& start) {
  auto rest = message.block;
  do {  // an empty block is a message as well: barriers are made of them
    const size_t count = std::min(rest.size(), runtime_.max_message_bytes_);
    requests_.push_back(MPI_REQUEST_NULL);
    peers_.push_back(message.peer);
    const int code = start(rest.data(), static_cast<int>(count), &requests_.back());
    runtime_.check(code, label_, runtime_.named(communicator_, {message.peer}));
    rest = rest.subspan(count);
  } while (!rest.empty());
}

void Runtime::Exchange::finish() {
  std::vector<int> indices(requests_.size());
  std::vector<MPI_Status> states(requests_.size());
  const auto deadline = Clock::now() + runtime_.timeout_;
  Pause pause;
  for (size_t left = requests_.size(); left > 0;) {
    runtime_.look_for_faults(label_);
    int done = 0;
    const int code = MPI_Testsome(static_cast<int>(requests_.size()), requests_.data(), &done,
                                  indices.data(), states.data());
    if (code != MPI_ERR_IN_STATUS) runtime_.check(code, label_, "MPI_Testsome");
    for (int i = 0; i < done; ++i) {
      const size_t state = static_cast<size_t>(i);
      if (code != MPI_ERR_IN_STATUS) states[state].MPI_ERROR = MPI_SUCCESS;  // else undefined
      complete(indices[state], states[state]);
    }
    left -= static_cast<size_t>(done);
    if (done > 0)
      pause.reset();
    else if (Clock::now() > deadline)
      runtime_.fail_call(
          label_, detail::concat(runtime_.named(communicator_, missing()), " did not come within ",
                                 runtime_.timeout_.count(), " ms"));
    else
      pause.take();
  }
}

void Runtime::Exchange::complete(int index, const MPI_Status& status) {
  const auto i = static_cast<size_t>(index);
  const std::string peer = runtime_.named(communicator_, {peers_[i]});
  if (status.MPI_ERROR == MPI_ERR_TRUNCATE)
    runtime_.fail_call(label_, detail::concat(peer, " gives more bytes than the ", expected_[i],
                                              " that are expected"));
  runtime_.check(status.MPI_ERROR, label_, peer);
  if (expected_[i] < 0) return;
  int got = 0;
  MPI_Get_count(&status, MPI_BYTE, &got);
  if (got != expected_[i])
    runtime_.fail_call(label_, detail::concat(peer, " gives ", got, " bytes where ", expected_[i],
                                              " are expected; all ranks must pass matching sizes"));
}

std::vector<int> Runtime::Exchange::missing() const {
  std::vector<int> ranks;
  for (size_t i = 0; i < requests_.size(); ++i)
    if (requests_[i] != MPI_REQUEST_NULL) ranks.push_back(peers_[i]);
  std::sort(ranks.begin(), ranks.end());
  ranks.erase(std::unique(ranks.begin(), ranks.end()), ranks.end());
  return ranks;
}

// After an Error: nothing may be written to memory that is no longer ours.
void Runtime::Exchange::give_up() {
  for (size_t i = 0; i < requests_.size(); ++i) {
    if (requests_[i] == MPI_REQUEST_NULL) continue;
    if (expected_.size() > i && expected_[i] >= 0) MPI_Cancel(&requests_[i]);
    MPI_Request_free(&requests_[i]);
  }
}

Runtime::Runtime(std::chrono::milliseconds timeout, size_t max_message_bytes)
    : timeout_(timeout),
      max_message_bytes_(max_message_bytes),
      handles_(std::make_unique<Handles>()) {
  TENDRIL_CHECK(max_message_bytes >= 1 && max_message_bytes <= (1u << 30),
                "[mpi] a message has 1 to 2^30 bytes; got ", max_message_bytes);
  start();
  learn_hosts();
}

void Runtime::start() {
  int is_ended = 0, is_started = 0, level = MPI_THREAD_SINGLE;
  MPI_Finalized(&is_ended);
  TENDRIL_CHECK(!is_ended, "[mpi] MPI was already ended in this process and cannot start again");
  MPI_Initialized(&is_started);
  if (is_started) {
    MPI_Query_thread(&level);
    TENDRIL_CHECK(level >= MPI_THREAD_SERIALIZED,
                  "[mpi] the application started MPI for one thread only; the group has a thread "
                  "of its own: call MPI_Init_thread with MPI_THREAD_MULTIPLE");
  } else {
    MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &level);
    is_ours_ = true;
  }
  // Sleeps of this thread end when they should, not up to 50 us later.
  prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0);
  // Communicators of our own, on which errors are returned, not fatal.
  Member world;
  check(MPI_Comm_dup(MPI_COMM_WORLD, &world.handle), "start", "MPI_Comm_dup");
  check(MPI_Comm_dup(MPI_COMM_WORLD, &handles_->faults), "start", "MPI_Comm_dup");
  for (const MPI_Comm comm : {world.handle, handles_->faults})
    MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
  int size = 0;
  MPI_Comm_rank(world.handle, &world.rank);
  MPI_Comm_size(world.handle, &size);
  world.world_ranks.resize(static_cast<size_t>(size));
  std::iota(world.world_ranks.begin(), world.world_ranks.end(), 0);
  handles_->members.push_back(std::move(world));
}

void Runtime::learn_hosts() {
  std::vector<char> own(MPI_MAX_PROCESSOR_NAME);
  int length = 0;
  MPI_Get_processor_name(own.data(), &length);
  std::vector<char> all(own.size() * static_cast<size_t>(size(kWorld)));
  const int count = MPI_MAX_PROCESSOR_NAME;
  check(MPI_Allgather(own.data(), count, MPI_CHAR, all.data(), count, MPI_CHAR,
                      handles_->members[kWorld].handle),
        "start", "MPI_Allgather");
  for (size_t begin = 0; begin < all.size(); begin += own.size())
    hosts_.emplace_back(all.data() + begin);
}

Runtime::~Runtime() {
  // Ending MPI waits for all processes, which are not to be relied on after a fault.
  if (is_aborted_) return;
  for (Member& member : handles_->members) MPI_Comm_free(&member.handle);
  MPI_Comm_free(&handles_->faults);
  if (is_ours_) MPI_Finalize();
}

int Runtime::rank(Communicator communicator) const { return handles_->members[communicator].rank; }

int Runtime::size(Communicator communicator) const {
  return static_cast<int>(handles_->members[communicator].world_ranks.size());
}

void Runtime::exchange(Communicator communicator, const std::string& label, int tag,
                       const std::vector<Message<ConstBytes>>& sends,
                       const std::vector<Message<Bytes>>& receives) {
  look_for_faults(label);
  Exchange exchange(*this, communicator, label, tag);
  for (const Message<Bytes>& message : receives) exchange.receive(message);
  for (const Message<ConstBytes>& message : sends) exchange.send(message);
  exchange.finish();
}

Runtime::Communicator Runtime::split(Communicator communicator, int color) {
  // MPI takes no negative colors, and would wait for ever for ranks that do not come. Both are
  // answered by telling everyone first: a color becomes the first rank that has it.
  const Member& parent = handles_->members[communicator];
  const int ranks = size(communicator);
  std::vector<int> colors(static_cast<size_t>(ranks), color);
  std::vector<Message<ConstBytes>> sends;
  std::vector<Message<Bytes>> receives;
  for (int peer = 0; peer < ranks; ++peer) {
    if (peer == parent.rank) continue;
    sends.push_back({peer, std::as_bytes(std::span(&color, 1))});
    receives.push_back(
        {peer, std::as_writable_bytes(std::span(&colors[static_cast<size_t>(peer)], 1))});
  }
  exchange(communicator, "split", 0, sends, receives);
  const auto first = std::find(colors.begin(), colors.end(), color) - colors.begin();
  Member child;
  check(MPI_Comm_split(parent.handle, static_cast<int>(first), parent.rank, &child.handle), "split",
        "MPI_Comm_split");
  MPI_Comm_rank(child.handle, &child.rank);
  for (int peer = 0; peer < ranks; ++peer)
    if (colors[static_cast<size_t>(peer)] == color)
      child.world_ranks.push_back(parent.world_ranks[static_cast<size_t>(peer)]);
  handles_->members.push_back(std::move(child));
  return handles_->members.size() - 1;
}

void Runtime::abort(const std::string& reason) {
  const std::lock_guard lock(mutex_);
  if (!is_aborted_) reason_ = reason.substr(0, kReasonBytes);
  is_aborted_ = true;
}

void Runtime::look_for_faults(const std::string& label) {
  int has_come = 0;
  MPI_Status status;
  if (!is_aborted_) {
    check(MPI_Iprobe(MPI_ANY_SOURCE, 0, handles_->faults, &has_come, &status), label, "MPI_Iprobe");
    if (has_come) {
      char text[kReasonBytes];
      int length = 0;
      MPI_Get_count(&status, MPI_CHAR, &length);
      MPI_Recv(text, length, MPI_CHAR, status.MPI_SOURCE, 0, handles_->faults, MPI_STATUS_IGNORE);
      is_announced_ = true;  // by another process
      abort({text, static_cast<size_t>(length)});
    }
  }
  if (!is_aborted_) return;
  std::string reason;
  {
    const std::lock_guard lock(mutex_);
    reason = reason_;
  }
  announce(reason);
  fail(where(label), "the group was aborted: ", reason);
}

// Tells all other processes, once. One that does not listen is left to mpirun.
void Runtime::announce(const std::string& reason) {
  if (is_announced_ || hosts_.empty()) return;  // without hosts: still starting
  is_announced_ = true;
  std::vector<MPI_Request> requests;
  for (int peer = 0; peer < size(kWorld); ++peer) {
    if (peer == rank(kWorld)) continue;
    requests.push_back(MPI_REQUEST_NULL);
    MPI_Isend(reason.data(), static_cast<int>(reason.size()), MPI_CHAR, peer, 0, handles_->faults,
              &requests.back());
  }
  const auto deadline = Clock::now() + kAnnounceTime;
  Pause pause;
  for (int done = 0; !done && Clock::now() < deadline; pause.take())
    if (MPI_Testall(static_cast<int>(requests.size()), requests.data(), &done,
                    MPI_STATUSES_IGNORE) != MPI_SUCCESS)
      return;
}

void Runtime::fail_call(const std::string& label, const std::string& why) {
  const std::string message = where(label) + why;
  abort(message);
  announce(message.substr(0, kReasonBytes));
  fail(message);
}

void Runtime::check(int code, const std::string& label, const std::string& what) {
  if (code != MPI_SUCCESS) fail_call(label, what + ": " + text_of(code));
}

std::string Runtime::where(const std::string& label) const {
  if (hosts_.empty()) return "[" + label + "] ";  // while starting
  const int own = rank(kWorld);
  return detail::concat("[", label, "] rank ", own, " on ", hosts_[static_cast<size_t>(own)], ": ");
}

std::string Runtime::named(Communicator communicator, const std::vector<int>& ranks) const {
  std::vector<int> world_ranks;
  std::vector<std::string> hosts;
  for (const int rank : ranks) {
    const int world = handles_->members[communicator].world_ranks[static_cast<size_t>(rank)];
    world_ranks.push_back(world);
    const std::string& host = hosts_[static_cast<size_t>(world)];
    if (std::find(hosts.begin(), hosts.end(), host) == hosts.end()) hosts.push_back(host);
  }
  std::string text = name_ranks(world_ranks) + " on ";
  for (size_t i = 0; i < hosts.size(); ++i) text += (i > 0 ? ", " : "") + hosts[i];
  return text;
}

}  // namespace tendril::dist::mpi
