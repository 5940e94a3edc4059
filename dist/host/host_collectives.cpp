#include <tendril/dist/host/host_collectives.h>

#include <tendril/dist/cut.h>
#include <tendril/dist/host/reducing_exchange.h>

namespace tendril::dist::host {
namespace {

// Below this, one exchange of everything is faster than one of parts and one of sums.
constexpr int64_t kSmallBytes = 4096;

Bytes bytes_of(const Tensor& tensor, int64_t begin, int64_t count) {
  const int64_t element = size_of(tensor.dtype());
  return {static_cast<std::byte*>(tensor.raw_data()) + begin * element,
          static_cast<size_t>(count * element)};
}

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
  add_up(transport, outgoing, summands, op);
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
  add_up(transport, outgoing, summands, op);

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
  add_up(transport, outgoing, summands, op);
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
