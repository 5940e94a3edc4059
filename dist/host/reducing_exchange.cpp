#include <tendril/dist/host/reducing_exchange.h>

#include <algorithm>

#include <tendril/dist/host/local_reduce.h>

namespace tendril::dist::host {
namespace {

// What a rank gets from all others before it adds up.
constexpr size_t kRoundBytes = 4 << 20;
constexpr size_t kAlignment = 64;

size_t aligned(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// A piece of a block.
struct Slice {
  size_t block, begin, size;
};

// Cuts a list of blocks into rounds of at most `limit` bytes, between elements. Depends on the
// blocks' sizes alone, so that the two sides of an exchange agree.
std::vector<std::vector<Slice>> in_rounds(const std::vector<size_t>& sizes, size_t limit) {
  std::vector<std::vector<Slice>> rounds;
  size_t space = 0;
  for (size_t block = 0; block < sizes.size(); ++block)
    for (size_t begin = 0; begin < sizes[block];) {
      const size_t rest = sizes[block] - begin;
      if (space < kAlignment) rounds.emplace_back(), space = limit;
      const size_t size = std::min(rest, space / kAlignment * kAlignment);
      rounds.back().push_back({block, begin, size});
      begin += size, space -= std::min(space, aligned(size));
    }
  return rounds;
}

template <class Block>
std::vector<size_t> sizes_of(const std::vector<Block>& blocks) {
  std::vector<size_t> sizes;
  for (const Block& block : blocks) sizes.push_back(block.size());
  return sizes;
}

// An exchange of what all ranks add up, in rounds, so that the others' numbers take little memory
// and are added while they are in the cache.
class ReducingExchange {
 public:
  ReducingExchange(Transport& transport, const Outgoing& outgoing,
                   const std::vector<Summand>& summands, ReduceOp op)
      : transport_(transport),
        own_(static_cast<size_t>(transport.rank())),
        outgoing_(outgoing),
        summands_(summands),
        op_(op) {
    const size_t limit = aligned(kRoundBytes / std::max<size_t>(1, outgoing_.size() - 1));
    for (size_t rank = 0; rank < outgoing_.size(); ++rank) {
      rounds_.push_back(in_rounds(rank == own_ ? own_sizes() : sizes_of(outgoing_[rank]), limit));
      count_ = std::max(count_, rounds_.back().size());
    }
    const size_t bytes = std::min(limit, staged_bytes()) * (outgoing_.size() - 1);
    memory_ = Tensor::empty({static_cast<int64_t>(bytes)}, u8);
  }

  void run() {
    for (size_t round = 0; round < std::max<size_t>(1, count_); ++round) exchange(round);
  }

 private:
  std::vector<size_t> own_sizes() const {
    std::vector<size_t> sizes;
    for (const Summand& summand : summands_) sizes.push_back(summand.mine.size());
    return sizes;
  }
  size_t staged_bytes() const {
    size_t bytes = 0;
    for (const size_t size : own_sizes()) bytes += aligned(size);
    return bytes;
  }
  const std::vector<Slice>& slices(size_t rank, size_t round) const {
    static const std::vector<Slice> kNone;  // ranks with smaller parts have fewer rounds
    return round < rounds_[rank].size() ? rounds_[rank][round] : kNone;
  }

  void exchange(size_t round) {
    Outgoing send(outgoing_.size());
    Incoming recv(outgoing_.size());
    auto* next = static_cast<std::byte*>(memory_.raw_data());
    for (size_t rank = 0; rank < send.size(); ++rank) {
      if (rank == own_) continue;
      for (const Slice& slice : slices(rank, round))
        send[rank].push_back(outgoing_[rank][slice.block].subspan(slice.begin, slice.size));
      for (const Slice& slice : slices(own_, round)) {
        recv[rank].emplace_back(next, slice.size);
        next += aligned(slice.size);
      }
    }
    transport_.all_to_all(send, recv);
    add_up(slices(own_, round), recv);
  }

  void add_up(const std::vector<Slice>& slices, const Incoming& received) const {
    std::vector<const void*> sources(received.size());
    for (size_t i = 0; i < slices.size(); ++i) {
      const Slice& slice = slices[i];
      const Summand& s = summands_[slice.block];
      const size_t element = static_cast<size_t>(size_of(s.from));
      const size_t begin = slice.begin / element, count = slice.size / element;
      for (size_t rank = 0; rank < sources.size(); ++rank)
        sources[rank] = rank == own_ ? s.mine.data() + slice.begin : received[rank][i].data();
      std::byte* out = s.out.data() + begin * static_cast<size_t>(size_of(s.to));
      reduce_locally(
          {sources.data(), transport_.size(), out, static_cast<int64_t>(count), s.from, s.to, op_});
    }
  }

  Transport& transport_;
  const size_t own_;
  const Outgoing& outgoing_;
  const std::vector<Summand>& summands_;
  const ReduceOp op_;
  std::vector<std::vector<std::vector<Slice>>> rounds_;  // of each rank's part
  size_t count_ = 0;
  Tensor memory_;  // what the others send in one round
};

}  // namespace

void add_up(Transport& transport, const Outgoing& outgoing, const std::vector<Summand>& summands,
            ReduceOp op) {
  ReducingExchange(transport, outgoing, summands, op).run();
}

}  // namespace tendril::dist::host
