#include <tendril/dist/host/host_copies.h>

#include <tendril/core/ops/copy.h>

namespace tendril::dist {

HostCopies::HostCopies(Device device) {
  if (device.is_cpu()) return;
  ready_.emplace(device);
  ready_->record();
}

Tensor HostCopies::input(const Tensor& x) {
  if (x.device().is_cpu()) return x;
  ready_->synchronize();
  const Tensor host = Tensor::empty(x.shape(), x.dtype());
  ops::copy(host, x);
  return host;
}

Tensor HostCopies::output(const Tensor& x) {
  if (x.device().is_cpu()) return x;
  const Tensor host = Tensor::empty(x.shape(), x.dtype());
  outputs_.emplace_back(x, host);
  return host;
}

Tensor HostCopies::in_place(const Tensor& x) {
  const Tensor host = input(x);
  if (!host.is_same(x)) outputs_.emplace_back(x, host);
  return host;
}

std::vector<Tensor> HostCopies::in_place(std::vector<Tensor> tensors) {
  for (Tensor& tensor : tensors) tensor = in_place(tensor);
  return tensors;
}

void HostCopies::finish() {
  if (outputs_.empty()) return;
  ready_->synchronize();  // work queued before may still read what is overwritten
  for (const auto& [tensor, host] : outputs_) ops::copy(tensor, host);
  cuda::Stream::current(outputs_.front().first.device()).synchronize();
}

}  // namespace tendril::dist
