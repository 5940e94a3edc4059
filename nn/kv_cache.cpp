#include <tendril/autograd/functions.h>
#include <tendril/autograd/tape.h>
#include <tendril/nn/kv_cache.h>

namespace tendril::nn {

KeyValueCache::KeyValueCache(int64_t capacity) : capacity_(capacity) {
  TENDRIL_CHECK(capacity > 0, "[KeyValueCache] capacity must be positive; got ", capacity);
}

std::pair<Tensor, Tensor> KeyValueCache::append(const Tensor& keys, const Tensor& values) {
  TENDRIL_CHECK(!grad_enabled() || !(keys.requires_grad() || values.requires_grad()),
                "[KeyValueCache] cannot record gradients through a cache; use NoGradGuard");
  TENDRIL_CHECK(keys.rank() == 4 && values.rank() == 4,
                "[KeyValueCache] needs keys and values (B, H, T, D); got ", keys.shape(), " and ",
                values.shape());
  const int64_t count = keys.size(2);
  const auto room = [&](const Tensor& x) {
    return Shape{x.size(0), x.size(1), capacity_, x.size(3)};
  };
  if (length_ == 0 &&
      !(keys_.defined() && keys_.shape() == room(keys) && values_.shape() == room(values) &&
        keys_.dtype() == keys.dtype() && keys_.device() == keys.device())) {
    keys_ = Tensor::empty(room(keys), keys.dtype(), keys.device());
    values_ = Tensor::empty(room(values), values.dtype(), values.device());
  }
  TENDRIL_CHECK(
      keys_.shape() == room(keys) && values_.shape() == room(values) && values.size(2) == count,
      "[KeyValueCache] keys ", keys.shape(), " and values ", values.shape(),
      " do not continue a cache of ", keys_.shape(), " and ", values_.shape());
  TENDRIL_CHECK(length_ + count <= capacity_, "[KeyValueCache] has room for ", capacity_,
                " positions; got ", count, " more after ", length_);
  copy_(slice(keys_, 2, length_, length_ + count), keys);
  copy_(slice(values_, 2, length_, length_ + count), values);
  length_ += count;
  return {slice(keys_, 2, 0, length_), slice(values_, 2, 0, length_)};
}

}  // namespace tendril::nn
