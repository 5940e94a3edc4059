#include <tendril/dist/host/watched_transport.h>

#include <algorithm>
#include <charconv>

#include <tendril/dist/store/monitor.h>

namespace tendril::dist {
namespace {

// What the transports of all groups share. The monitor goes first: it calls the transport.
struct Watch {
  std::shared_ptr<Transport> world;
  std::shared_ptr<Monitor> monitor;
};

// The text of rank 0 on all ranks.
std::string broadcast_text(Transport& transport, std::string text) {
  uint64_t size = text.size();
  transport.broadcast({std::as_writable_bytes(std::span(&size, 1))}, 0);
  text.resize(size);
  transport.broadcast({std::as_writable_bytes(std::span(text))}, 0);
  return text;
}

// 17 of "all_reduce 17 in step 3"; -1 where there is none.
int64_t number_in(const std::string& label) {
  int64_t number = -1;
  const size_t space = label.find(' ');
  if (space != std::string::npos)
    std::from_chars(label.data() + space + 1, label.data() + label.size(), number);
  return number;
}

class WatchedTransport final : public Transport {
 public:
  /// `world_ranks`: of the members, among all; empty for all.
  WatchedTransport(std::shared_ptr<Watch> watch, std::shared_ptr<Transport> inner,
                   std::vector<int> world_ranks)
      : watch_(std::move(watch)), inner_(std::move(inner)), world_ranks_(std::move(world_ranks)) {}

  const char* backend() const override { return inner_->backend(); }
  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  void all_to_all(const std::vector<std::vector<ConstBytes>>& send,
                  const std::vector<std::vector<Bytes>>& recv) override {
    during([&] { inner_->all_to_all(send, recv); });
  }
  void broadcast(const std::vector<Bytes>& blocks, int root) override {
    during([&] { inner_->broadcast(blocks, root); });
  }
  void send(ConstBytes block, int to) override {
    during([&] { inner_->send(block, to); });
  }
  void recv(Bytes block, int from) override {
    during([&] { inner_->recv(block, from); });
  }
  void barrier() override {
    during([&] { inner_->barrier(); });
  }
  std::unique_ptr<Transport> split(int color) override;
  void abort(const std::string& reason) override {
    inner_->abort(reason);
    watch_->monitor->report(reason);
  }
  void set_label(const std::string& label) override {
    label_ = label;
    inner_->set_label(label);
  }

 private:
  // The others are told what this rank is in, and what it fails with.
  template <class Call>
  void during(const Call& call) {
    watch_->monitor->enter(label_, number_in(label_), world_ranks_);
    try {
      call();
    } catch (const std::exception& error) {
      watch_->monitor->report(error.what());
      throw;
    }
    watch_->monitor->leave();
  }

  std::shared_ptr<Watch> watch_;
  std::shared_ptr<Transport> inner_;
  const std::vector<int> world_ranks_;
  std::string label_;
};

std::unique_ptr<Transport> WatchedTransport::split(int color) {
  std::unique_ptr<Transport> part;
  std::vector<int> members;
  during([&] {
    part = inner_->split(color);
    part->set_label(label_);
    const auto own = static_cast<size_t>(rank());
    const int world_rank = world_ranks_.empty() ? rank() : world_ranks_[own];
    members.resize(static_cast<size_t>(part->size()));
    std::vector<std::vector<ConstBytes>> send;
    std::vector<std::vector<Bytes>> receive;
    for (int& member : members) {
      send.push_back({std::as_bytes(std::span(&world_rank, 1))});
      receive.push_back({std::as_writable_bytes(std::span(&member, 1))});
    }
    part->all_to_all(send, receive);
  });
  return std::make_unique<WatchedTransport>(watch_, std::move(part), std::move(members));
}

}  // namespace

std::unique_ptr<Transport> watch_transport(std::unique_ptr<Transport> world,
                                           const InitOptions& options) {
  const auto watch = std::make_shared<Watch>();
  watch->world = std::move(world);
  Transport* transport = watch->world.get();
  transport->set_label("init_process_group");
  MonitorOptions monitor;
  monitor.rank = transport->rank();
  monitor.size = transport->size();
  // A transport that looks at the clock itself comes first: it knows best whom it waits for.
  monitor.timeout =
      options.timeout + std::min<std::chrono::milliseconds>(options.timeout, options.grace);
  monitor.grace = options.grace;
  monitor.exchange = [transport](const std::string& text) {
    return broadcast_text(*transport, text);
  };
  monitor.abort = [transport](const std::string& reason) { transport->abort(reason); };
  watch->monitor = start_monitor(std::move(monitor));
  return std::make_unique<WatchedTransport>(watch, watch->world, std::vector<int>());
}

}  // namespace tendril::dist
