#include <tendril/dist/host/in_process_transport.h>

#include <algorithm>
#include <thread>

#include <tendril/core/error.h>
#include <tendril/dist/host/blocks.h>
#include <tendril/dist/host/rank_names.h>

namespace tendril::dist {

void InProcessHall::abort(const std::string& why) {
  const std::lock_guard lock(mutex);
  if (!is_aborted) reason = why;
  is_aborted = true;
  changed.notify_all();
}

InProcessTable::InProcessTable(std::shared_ptr<InProcessHall> hall, const std::vector<int>& numbers)
    : hall(std::move(hall)), seats(numbers.size()) {
  for (size_t i = 0; i < numbers.size(); ++i) seats[i].number = numbers[i];
}

InProcessTransport::~InProcessTransport() {
  const Lock lock(hall_.mutex);
  seat(rank_).left = true;
  hall_.changed.notify_all();
}

void InProcessTransport::all_to_all(const std::vector<std::vector<ConstBytes>>& send,
                                    const std::vector<std::vector<Bytes>>& recv) {
  meet(send, 0);
  const Clock::time_point start = Clock::now();
  std::string wrong = difference();
  for (int i = 0; i < size() && wrong.empty(); ++i) {
    const int peer = (rank_ + 1 + i) % size();  // not all from the same one at the same time
    const auto& from = (*seat(peer).offer)[static_cast<size_t>(rank_)];
    const auto& to = recv[static_cast<size_t>(peer)];
    if (total_bytes(from) == total_bytes(to))
      copy_blocks(to, from);
    else
      wrong =
          detail::concat("rank ", seat(peer).number, " gives ", total_bytes(from), " bytes where ",
                         total_bytes(to), " are expected; all ranks must pass matching sizes");
  }
  part();
  if (!wrong.empty()) {
    Lock lock(hall_.mutex);
    fail_call(lock, wrong);
  }
  size_t sent = 0;
  for (size_t rank = 0; rank < send.size(); ++rank)
    if (static_cast<int>(rank) != rank_) sent += total_bytes(send[rank]);
  take_time(start, sent);
}

void InProcessTransport::broadcast(const std::vector<Bytes>& blocks, int root) {
  InProcessTable::Offer offer(static_cast<size_t>(size()));
  std::vector<std::vector<Bytes>> recv(offer.size());
  if (rank_ == root) {
    offer.assign(offer.size(), {blocks.begin(), blocks.end()});
    offer[static_cast<size_t>(root)].clear();
  } else {
    recv[static_cast<size_t>(root)] = blocks;
  }
  all_to_all(offer, recv);
}

void InProcessTransport::barrier() {
  const auto ranks = static_cast<size_t>(size());
  all_to_all(InProcessTable::Offer(ranks), std::vector<std::vector<Bytes>>(ranks));
}

void InProcessTransport::send(ConstBytes block, int to) {
  const Clock::time_point start = Clock::now();
  Lock lock(hall_.mutex);
  InProcessTable::Letter& letter = table_->letters[{rank_, to}];
  letter = {block, InProcessTable::Letter::waiting};
  hall_.changed.notify_all();
  try {
    wait(
        lock, [&] { return letter.state != InProcessTable::Letter::waiting; },
        [&] { return std::vector<int>{to}; });
  } catch (const Error&) {
    table_->letters.erase({rank_, to});
    throw;
  }
  hall_.changed.wait(lock, [&] { return letter.state == InProcessTable::Letter::read; });
  table_->letters.erase({rank_, to});
  lock.unlock();
  take_time(start, block.size());
}

void InProcessTransport::recv(Bytes block, int from) {
  Lock lock(hall_.mutex);
  const auto& letters = table_->letters;
  const auto waits = [&] {
    const auto found = letters.find({from, rank_});
    return found != letters.end() && found->second.state == InProcessTable::Letter::waiting;
  };
  wait(lock, waits, [&] { return std::vector<int>{from}; });
  InProcessTable::Letter& letter = table_->letters.at({from, rank_});
  letter.state = InProcessTable::Letter::being_read;  // from now on the sender waits for us
  const bool fits = letter.block.size() == block.size();
  lock.unlock();
  if (fits) copy_blocks({block}, {letter.block});
  lock.lock();
  const size_t got = letter.block.size();
  letter.state = InProcessTable::Letter::read;
  hall_.changed.notify_all();
  if (!fits)
    fail_call(lock, detail::concat("rank ", seat(from).number, " sends ", got, " bytes where ",
                                   block.size(), " are expected"));
}

std::unique_ptr<Transport> InProcessTransport::split(int color) {
  const InProcessTable::Offer nothing(static_cast<size_t>(size()));
  meet(nothing, color);
  std::shared_ptr<InProcessTable> child;
  int rank = 0;
  {
    const Lock lock(hall_.mutex);
    std::vector<int> numbers;
    for (int i = 0; i < size(); ++i) {
      if (seat(i).color != color) continue;
      if (i == rank_) rank = static_cast<int>(numbers.size());
      numbers.push_back(seat(i).number);
    }
    std::shared_ptr<InProcessTable>& made = table_->children[color];
    if (!made) made = std::make_shared<InProcessTable>(table_->hall, numbers);
    child = made;
  }
  part();
  {
    const Lock lock(hall_.mutex);
    table_->children.erase(color);  // all have it, and none can be in another split yet
  }
  return std::make_unique<InProcessTransport>(std::move(child), rank);
}

// Returns when all ranks have come. Whether a meeting is complete is decided once, by the last to
// come: all ranks agree on it, whatever is aborted in between.
void InProcessTransport::meet(const InProcessTable::Offer& offer, int color) {
  Lock lock(hall_.mutex);
  InProcessTable::Seat& own = seat(rank_);
  own.offer = &offer;
  own.label = label_.substr(0, label_.find(" in step"));
  own.color = color;
  const int64_t meeting = ++own.arrived;
  const auto missing = [&] {
    std::vector<int> ranks;
    for (int rank = 0; rank < size(); ++rank)
      if (seat(rank).arrived < meeting) ranks.push_back(rank);
    return ranks;
  };
  if (!hall_.is_aborted && missing().empty()) {
    table_->met = meeting;
    hall_.changed.notify_all();
  }
  wait(
      lock, [&] { return table_->met >= meeting; }, missing);
}

// Returns when all ranks have what they need of the offers.
void InProcessTransport::part() {
  Lock lock(hall_.mutex);
  const int64_t meeting = ++seat(rank_).parted;
  const auto all_done = [&] {
    return std::all_of(table_->seats.begin(), table_->seats.end(),
                       [&](const InProcessTable::Seat& seat) { return seat.parted >= meeting; });
  };
  if (all_done()) hall_.changed.notify_all();
  hall_.changed.wait(lock, all_done);
}

// Waits for `missing` ranks to bring `done` about; Error when that cannot come any more.
template <class Done, class Missing>
void InProcessTransport::wait(Lock& lock, const Done& done, const Missing& missing) {
  const auto gone = [&] {
    std::vector<int> ranks = missing();
    std::erase_if(ranks, [&](int rank) { return !seat(rank).left; });
    return ranks;
  };
  const auto deadline = Clock::now() + hall_.options.timeout;
  const bool in_time = hall_.changed.wait_until(
      lock, deadline, [&] { return done() || hall_.is_aborted || !gone().empty(); });
  if (done()) return;
  if (hall_.is_aborted) fail_call(lock, "the group was aborted: " + hall_.reason);
  if (in_time) fail_call(lock, named(gone()) + " left the group before that");
  fail_call(lock, detail::concat(named(missing()), " did not come within ",
                                 hall_.options.timeout.count(), " ms"));
}

// Between meet() and part(): how the ranks' calls differ; "" when they do not.
std::string InProcessTransport::difference() {
  for (const InProcessTable::Seat& other : table_->seats)
    if (other.label != seat(rank_).label)
      return detail::concat("rank ", other.number, " is in ", other.label,
                            "; all ranks must make the same calls in the same order");
  return "";
}

void InProcessTransport::take_time(Clock::time_point start, size_t sent_bytes) const {
  const InProcessOptions& options = hall_.options;
  std::chrono::duration<double> time = options.latency;
  if (options.bytes_per_second > 0.0)
    time +=
        std::chrono::duration<double>(static_cast<double>(sent_bytes) / options.bytes_per_second);
  if (time.count() > 0.0)
    std::this_thread::sleep_until(start + std::chrono::ceil<Clock::duration>(time));
}

// The others must not wait for a rank that has given up.
void InProcessTransport::fail_call([[maybe_unused]] const Lock& held, const std::string& why) {
  const std::string message = detail::concat("[", label_, "] rank ", seat(rank_).number, ": ", why);
  if (!hall_.is_aborted) hall_.reason = message;
  hall_.is_aborted = true;
  hall_.changed.notify_all();
  fail(message);
}

std::string InProcessTransport::named(const std::vector<int>& ranks) {
  std::vector<int> numbers;
  for (const int rank : ranks) numbers.push_back(seat(rank).number);
  return name_ranks(numbers);
}

}  // namespace tendril::dist
