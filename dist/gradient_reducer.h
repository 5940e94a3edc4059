// Groups of gradients that are exchanged as soon as they are complete: what data parallel and
// sharding share. Groups start in a fixed order, the last first, whatever the order in which a rank
// finishes them, so that all ranks agree.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <tendril/autograd/tape.h>
#include <tendril/core/named_tensor.h>

namespace tendril::dist {

class GradientReducer;

/// While one lives, backward passes exchange nothing.
class TENDRIL_API NoSync {
 public:
  explicit NoSync(GradientReducer& reducer);
  ~NoSync();
  NoSync(const NoSync&) = delete;
  NoSync& operator=(const NoSync&) = delete;

 private:
  GradientReducer& reducer_;
};

/// What happens to the groups; all of it runs in the thread of backward().
struct GradientExchange {
  /// All gradients of a group are complete or known to be absent: starts to move them.
  std::function<void(size_t group)> start;
  /// The backward pass is over and every group was started: waits, and puts the results in place.
  std::function<void()> finish;
  /// The pass has ended with an Error: what it has left is of no use. Must not throw.
  std::function<void()> abandon;
};

struct GradientReducerOptions {
  bool allow_unused = true;  // else a pass that leaves a parameter out is an Error that names it
};

class TENDRIL_API GradientReducer {
 public:
  GradientReducer(std::vector<std::vector<NamedTensor>> groups, GradientExchange exchange,
                  const GradientReducerOptions& options = {});
  ~GradientReducer();
  GradientReducer(const GradientReducer&) = delete;
  GradientReducer& operator=(const GradientReducer&) = delete;

  NoSync no_sync() { return NoSync(*this); }
  bool is_syncing() const { return no_sync_depth_ == 0; }
  const std::vector<std::vector<NamedTensor>>& groups() const { return groups_; }

 private:
  friend class NoSync;
  struct Pass;
  void complete(size_t group, size_t index);
  void finish(Pass& pass);
  void require_all_used(const Pass& pass) const;

  std::vector<std::vector<NamedTensor>> groups_;
  GradientExchange exchange_;
  GradientReducerOptions options_;
  std::vector<HookHandle> hooks_;
  std::weak_ptr<Pass> pass_;  // the one that runs
  int no_sync_depth_ = 0;
};

}  // namespace tendril::dist
