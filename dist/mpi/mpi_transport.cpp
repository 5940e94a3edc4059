#include <tendril/dist/mpi/mpi_transport.h>

#include <functional>

#include <tendril/dist/host/blocks.h>

namespace tendril::dist::mpi {
namespace {

constexpr int kLetterTag = 0;  // of send() and recv(), whose labels differ

}  // namespace

// Operations that are not the same must not take each other's messages: ranks that disagree wait
// for each other until the timeout names them.
void MpiTransport::set_label(const std::string& label) {
  label_ = label;
  const std::string operation = label.substr(0, label.find(" in step"));
  tag_ = 1 + static_cast<int>(std::hash<std::string>{}(operation) % 32'000);
}

void MpiTransport::all_to_all(const std::vector<std::vector<ConstBytes>>& send,
                              const std::vector<std::vector<Bytes>>& recv) {
  const int ranks = size(), own = rank();
  std::vector<Message<ConstBytes>> sends;
  std::vector<Message<Bytes>> receives;
  for (int i = 1; i < ranks; ++i) {  // not all to the same rank first
    const int to = (own + i) % ranks, from = (own + ranks - i) % ranks;
    for (const ConstBytes& block : send[static_cast<size_t>(to)])
      if (!block.empty()) sends.push_back({to, block});
    for (const Bytes& block : recv[static_cast<size_t>(from)])
      if (!block.empty()) receives.push_back({from, block});
  }
  runtime_->exchange(communicator_, label_, tag_, sends, receives);
  copy_blocks(recv[static_cast<size_t>(own)], send[static_cast<size_t>(own)]);
}

// Along a binomial tree: counted from the root, rank r gets the blocks from r without its lowest
// set bit, and passes them on to r + 1, r + 2, r + 4, ... below that bit.
void MpiTransport::broadcast(const std::vector<Bytes>& blocks, int root) {
  const int ranks = size(), own = (rank() - root + ranks) % ranks;
  int bit = 1;
  while (bit < ranks && (own & bit) == 0) bit *= 2;
  std::vector<Message<Bytes>> receives;
  std::vector<Message<ConstBytes>> sends;
  for (const Bytes& block : blocks) {
    if (block.empty()) continue;
    if (own > 0) receives.push_back({(own - bit + root) % ranks, block});
    for (int child = bit / 2; child > 0; child /= 2)
      if (own + child < ranks) sends.push_back({(own + child + root) % ranks, block});
  }
  runtime_->exchange(communicator_, label_, tag_, {}, receives);
  runtime_->exchange(communicator_, label_, tag_, sends, {});
}

void MpiTransport::send(ConstBytes block, int to) {
  runtime_->exchange(communicator_, label_, kLetterTag, {{to, block}}, {});
}

void MpiTransport::recv(Bytes block, int from) {
  runtime_->exchange(communicator_, label_, kLetterTag, {}, {{from, block}});
}

// An empty message from everyone to everyone, so that it is known who is missing.
void MpiTransport::barrier() {
  std::vector<Message<ConstBytes>> sends;
  std::vector<Message<Bytes>> receives;
  for (int peer = 0; peer < size(); ++peer) {
    if (peer == rank()) continue;
    sends.push_back({peer, {}});
    receives.push_back({peer, {}});
  }
  runtime_->exchange(communicator_, label_, tag_, sends, receives);
}

std::unique_ptr<Transport> MpiTransport::split(int color) {
  return std::make_unique<MpiTransport>(runtime_, runtime_->split(communicator_, color));
}

}  // namespace tendril::dist::mpi
