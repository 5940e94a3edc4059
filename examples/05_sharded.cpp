// Sharding: four ranks train one model, and each keeps a quarter of its weights, gradients and
// optimizer state. The ranks are threads here; started by mpirun or tendril-launch they are
// processes, and instead of run_ranks() there is:
//
//   auto group = dist::init_process_group();
#include <tendril/tendril.h>

#include <cmath>
#include <iostream>

using namespace tendril;

constexpr int kRanks = 4;
constexpr int64_t kSteps = 40;

// Eight examples of a step, of which each rank works on two: counting up or down from a start.
Tensor examples(int64_t step, int rank) {
  std::vector<int64_t> tokens;
  for (int64_t row = 2 * rank; row < 2 * rank + 2; ++row)
    for (int64_t t = 0; t <= 16; ++t)
      tokens.push_back((5 * step + 11 * row + (row % 2 == 0 ? t : 64 - t)) % 32);
  return Tensor::from(tokens, {2, 17});
}

double train(const std::shared_ptr<dist::ProcessGroup>& group) {
  nn::models::Gpt2 model({.vocab_size = 32,
                          .n_positions = 16,
                          .n_layer = 2,
                          .n_head = 4,
                          .n_embd = 64,
                          .embd_pdrop = 0.0,
                          .attn_pdrop = 0.0,
                          .resid_pdrop = 0.0});
  const int64_t whole = model.parameter_count();
  dist::FullySharded fsdp(model, group, {.wrap = dist::wrap_class({"Gpt2Block"})});
  optim::AdamW optimizer(fsdp.named_parameters(), {.lr = 3e-3});

  double loss = 0.0;
  for (int64_t step = 0; step < kSteps; ++step) {
    const Tensor batch = examples(step, group->rank());
    const Tensor mean = model.loss(slice(batch, 1, 0, 16), slice(batch, 1, 1, 17));
    mean.backward();  // gathers weights unit by unit, and leaves each rank its part of the
                      // gradients
    fsdp.clip_grad_norm(1.0);
    optimizer.step();
    optimizer.zero_grad();
    const Tensor shared = mean.detach();
    group->all_reduce(shared, dist::ReduceOp::avg).wait();
    loss = shared.item<double>();
  }
  if (group->rank() == 0)
    std::cout << "loss " << loss << " after " << kSteps << " steps on " << group->size()
              << " ranks\n"
              << "rank 0 keeps " << fsdp.part_bytes() << " of " << 4 * whole
              << " bytes of weights, and sent " << group->traffic().sent_bytes / kSteps
              << " bytes per step\n";
  return loss;
}

int main() {
  double loss = 0.0;
  dist::run_ranks(kRanks, [&](const std::shared_ptr<dist::ProcessGroup>& group) {
    const double mine = train(group);
    if (group->rank() == 0) loss = mine;
  });
  return std::isfinite(loss) && loss < 2.0 ? 0 : 1;
}
