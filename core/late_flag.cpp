#include <tendril/core/cuda/late_copy.h>
#include <tendril/core/late_flag.h>

namespace tendril {

struct LateFlag::State {
  Tensor flag;
  std::optional<bool> seen;
  std::shared_ptr<cuda::LateCopy> copy;  // null where the host has seen it from the beginning
};

LateFlag::LateFlag(const Tensor& flag, std::optional<bool> known)
    : state_(std::make_shared<State>(State{flag, known, nullptr})) {
  TENDRIL_CHECK(flag.dtype() == i64 && flag.numel() == 1, "[LateFlag] needs one i64; got ",
                flag.dtype(), " ", flag.shape());
  if (known) return;
#ifdef TENDRIL_WITH_CUDA
  if (flag.device().is_cuda()) {
    state_->copy = cuda::copy_later(flag);
    return;
  }
#endif
  state_->seen = flag.item<int64_t>() != 0;
}

Tensor LateFlag::tensor() const { return state_ ? state_->flag : Tensor(); }

std::optional<bool> LateFlag::seen() const { return state_ ? state_->seen : false; }

#ifdef TENDRIL_WITH_CUDA

bool LateFlag::has_arrived() const { return seen() || cuda::has_arrived(*state_->copy); }

bool LateFlag::value() const {
  if (const std::optional<bool> known = seen()) return *known;
  cuda::wait_for(*state_->copy);
  state_->seen = cuda::arrived_number(*state_->copy) != 0;
  return *state_->seen;
}

#else

bool LateFlag::has_arrived() const { return true; }
bool LateFlag::value() const { return *seen(); }

#endif

}  // namespace tendril
