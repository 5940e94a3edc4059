#include <tendril/dist/host_collectives.h>

#include <algorithm>

#include <tendril/dist/cut.h>
#include <tendril/dist/local_reduce.h>

namespace tendril::dist::host {
namespace {

using Outgoing = std::vector<std::vector<ConstBytes>>;  // blocks for each rank
using Incoming = std::vector<std::vector<Bytes>>;       // blocks from each rank

// Below this, one exchange of everything is faster than one of parts and one of sums.
constexpr int64_t kSmallBytes = 4096;
// What a rank gets from all others before it adds up.
constexpr size_t kRoundBytes = 4 << 20;
constexpr size_t kAlignment = 64;

size_t aligned(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

Bytes bytes_of(const Tensor& tensor, int64_t begin, int64_t count) {
  const int64_t element = size_of(tensor.dtype());
  return {static_cast<std::byte*>(tensor.raw_data()) + begin * element,
          static_cast<size_t>(count * element)};
}

// Numbers that this rank adds up.
struct Summand {
  Bytes mine, out;
  DType from, to;
};

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
  /// `outgoing` says what this rank sends to the others, in the blocks in which they add it up.
  ReducingExchange(Transport& transport, Outgoing outgoing, std::vector<Summand> summands,
                   ReduceOp op)
      : transport_(transport),
        own_(static_cast<size_t>(transport.rank())),
        outgoing_(std::move(outgoing)),
        summands_(std::move(summands)),
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
  const Outgoing outgoing_;
  const std::vector<Summand> summands_;
  const ReduceOp op_;
  std::vector<std::vector<std::vector<Slice>>> rounds_;  // of each rank's part
  size_t count_ = 0;
  Tensor memory_;  // what the others send in one round
};

// Everything to everyone, who all form the same sums.
void all_reduce_small(Transport& transport, const std::vector<Tensor>& tensors, ReduceOp op) {
  std::vector<ConstBytes> blocks;
  std::vector<Summand> summands;
  for (const Tensor& tensor : tensors) {
    const Bytes bytes = host::bytes_of(tensor);
    blocks.emplace_back(bytes);
    summands.push_back({bytes, bytes, tensor.dtype(), tensor.dtype()});
  }
  Outgoing outgoing(static_cast<size_t>(transport.size()), blocks);
  outgoing[static_cast<size_t>(transport.rank())].clear();
  ReducingExchange(transport, outgoing, std::move(summands), op).run();
}

Bytes part_of(const Piece& piece, size_t rank) {
  int64_t begin = 0;
  for (size_t r = 0; r < rank; ++r) begin += piece.counts[r];
  return bytes_of(piece.whole, begin, piece.counts[rank]);
}

// A block for each rank.
template <class Block>
std::vector<std::vector<Block>> cut(const Tensor& tensor, const std::vector<int64_t>& counts) {
  std::vector<std::vector<Block>> blocks;
  int64_t begin = 0;
  for (const int64_t count : counts) {
    blocks.push_back({Block(bytes_of(tensor, begin, count))});
    begin += count;
  }
  return blocks;
}

}  // namespace

Bytes bytes_of(const Tensor& tensor) { return bytes_of(tensor, 0, tensor.numel()); }

void all_reduce(Transport& transport, const std::vector<Tensor>& tensors, ReduceOp op) {
  int64_t total = 0;
  for (const Tensor& tensor : tensors) total += tensor.nbytes();
  if (total <= kSmallBytes) return all_reduce_small(transport, tensors, op);

  const int ranks = transport.size();
  Incoming parts(static_cast<size_t>(ranks));  // of the tensors, which sums come into
  for (int rank = 0; rank < ranks; ++rank)
    for (const Stretch& s : cut_together(tensors, rank, ranks))
      parts[static_cast<size_t>(rank)].push_back(bytes_of(tensors[s.tensor], s.begin, s.count));
  const auto own = static_cast<size_t>(transport.rank());
  Outgoing outgoing;
  for (const std::vector<Bytes>& blocks : parts)
    outgoing.emplace_back(blocks.begin(), blocks.end());
  outgoing[own].clear();
  std::vector<Summand> summands;
  for (const Stretch& s : cut_together(tensors, transport.rank(), ranks)) {
    const Tensor& tensor = tensors[s.tensor];
    const Bytes block = bytes_of(tensor, s.begin, s.count);
    summands.push_back({block, block, tensor.dtype(), tensor.dtype()});
  }
  ReducingExchange(transport, outgoing, std::move(summands), op).run();

  outgoing.assign(static_cast<size_t>(ranks), {parts[own].begin(), parts[own].end()});
  outgoing[own].clear();
  parts[own].clear();
  transport.all_to_all(outgoing, parts);
}

void reduce_scatter(Transport& transport, const std::vector<Piece>& pieces, ReduceOp op) {
  const auto own = static_cast<size_t>(transport.rank());
  Outgoing outgoing(static_cast<size_t>(transport.size()));
  std::vector<Summand> summands;
  for (const Piece& piece : pieces) {
    for (size_t rank = 0; rank < outgoing.size(); ++rank)
      if (rank != own) outgoing[rank].emplace_back(part_of(piece, rank));
    summands.push_back(
        {part_of(piece, own), bytes_of(piece.part), piece.whole.dtype(), piece.part.dtype()});
  }
  ReducingExchange(transport, outgoing, std::move(summands), op).run();
}

void all_gather(Transport& transport, const std::vector<Piece>& pieces) {
  std::vector<ConstBytes> parts;
  Incoming incoming(static_cast<size_t>(transport.size()));
  for (const Piece& piece : pieces) {
    parts.emplace_back(bytes_of(piece.part));
    for (size_t rank = 0; rank < incoming.size(); ++rank)
      incoming[rank].push_back(part_of(piece, rank));
  }
  transport.all_to_all(Outgoing(incoming.size(), parts), incoming);
}

void broadcast(Transport& transport, const std::vector<Tensor>& tensors, int root) {
  std::vector<Bytes> blocks;
  for (const Tensor& tensor : tensors) blocks.push_back(bytes_of(tensor));
  transport.broadcast(blocks, root);
}

void gather(Transport& transport, const std::vector<Piece>& pieces, int root) {
  Outgoing outgoing(static_cast<size_t>(transport.size()));
  Incoming incoming(outgoing.size());
  for (const Piece& piece : pieces) {
    outgoing[static_cast<size_t>(root)].emplace_back(bytes_of(piece.part));
    if (transport.rank() != root) continue;
    for (size_t rank = 0; rank < incoming.size(); ++rank)
      incoming[rank].push_back(part_of(piece, rank));
  }
  transport.all_to_all(outgoing, incoming);
}

void all_to_all(Transport& transport, const Tensor& output,
                const std::vector<int64_t>& output_counts, const Tensor& input,
                const std::vector<int64_t>& input_counts) {
  transport.all_to_all(cut<ConstBytes>(input, input_counts), cut<Bytes>(output, output_counts));
}

}  // namespace tendril::dist::host
