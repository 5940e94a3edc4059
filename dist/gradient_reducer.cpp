#include <tendril/autograd/after_backward.h>
#include <tendril/dist/gradient_reducer.h>

namespace tendril::dist {

NoSync::NoSync(GradientReducer& reducer) : reducer_(reducer) { ++reducer_.no_sync_depth_; }
NoSync::~NoSync() { --reducer_.no_sync_depth_; }

// What the pass that runs knows. It goes when the pass ends, also by an Error.
struct GradientReducer::Pass {
  Pass(const std::vector<std::vector<NamedTensor>>& groups, const GradientExchange& exchange)
      : next(groups.size()), exchange(exchange) {
    for (const auto& group : groups) {
      done.emplace_back(group.size(), false);
      missing.push_back(group.size());
    }
  }
  std::vector<std::vector<bool>> done;
  std::vector<size_t> missing;  // per group
  size_t next;                  // groups from here on have been started
  const GradientExchange& exchange;
  bool finished = false;
  ~Pass() {
    if (!finished) exchange.abandon();
  }
  Pass(const Pass&) = delete;
  Pass& operator=(const Pass&) = delete;
};

GradientReducer::GradientReducer(std::vector<std::vector<NamedTensor>> groups,
                                 GradientExchange exchange, const GradientReducerOptions& options)
    : groups_(std::move(groups)), exchange_(std::move(exchange)), options_(options) {
  for (size_t group = 0; group < groups_.size(); ++group)
    for (size_t index = 0; index < groups_[group].size(); ++index)
      hooks_.push_back(register_grad_complete_hook(
          groups_[group][index].tensor, [this, group, index](Tensor&) { complete(group, index); }));
}

GradientReducer::~GradientReducer() {
  for (HookHandle& hook : hooks_) hook.remove();
}

void GradientReducer::complete(size_t group, size_t index) {
  if (!is_syncing()) return;
  std::shared_ptr<Pass> pass = pass_.lock();
  if (!pass) {
    pass = std::make_shared<Pass>(groups_, exchange_);
    pass_ = pass;
    after_backward([this, pass] { finish(*pass); });  // dropped, and the pass with it, on an Error
  }
  if (pass->done[group][index]) return;
  pass->done[group][index] = true;
  --pass->missing[group];
  while (pass->next > 0 && pass->missing[pass->next - 1] == 0) exchange_.start(--pass->next);
}

void GradientReducer::finish(Pass& pass) {
  if (!options_.allow_unused) require_all_used(pass);
  while (pass.next > 0) exchange_.start(--pass.next);
  exchange_.finish();
  pass.finished = true;
}

void GradientReducer::require_all_used(const Pass& pass) const {
  for (size_t group = 0; group < groups_.size(); ++group)
    for (size_t index = 0; index < groups_[group].size(); ++index)
      TENDRIL_CHECK(pass.done[group][index] || !groups_[group][index].tensor.requires_grad(),
                    "[backward] the parameter \"", groups_[group][index].name,
                    "\" got no gradient in this pass, which other ranks wait for; set "
                    "find_unused_parameters, or freeze it");
}

}  // namespace tendril::dist
