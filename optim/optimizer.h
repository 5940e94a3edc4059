// What all optimizers share: parameter groups, learning rates and state by name.
//
//   optim::AdamW optimizer(model.named_parameters(), {.lr = 3e-4});
//   for (int64_t step = 0; step < steps; ++step) {
//     optimizer.scale_lr(optim::cosine(step, {.warmup = 100, .total = steps}));
//     optimizer.zero_grad();
//     model.loss(tokens, targets).backward();
//     optim::clip_grad_norm(optimizer.parameters(), 1.0);
//     optimizer.step();
//   }
#pragma once

#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <tendril/core/late_flag.h>
#include <tendril/core/named_tensor.h>
#include <tendril/core/ops/step_gate.h>

namespace tendril::optim {

class BackwardUpdates;  // layerwise.h
struct BackwardUpdateOptions;

class TENDRIL_API Optimizer {
 public:
  virtual ~Optimizer();
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  /// Updates every parameter that has a gradient; the others, and their state, stay as they are.
  void step();
  /// step(), unless the flag is set: then everything stays as if there had been no call, the counts
  /// of steps too. A GPU decides by itself while the host goes on, where all gradients and the flag
  /// are on that one GPU and the rule allows it: AdamW, Adam, SGD, Lion, AdamW8bit, Lion8bit,
  /// Adagrad, RMSprop and AdEMAMix. Others wait for the flag, and so does the host with 8
  /// such steps under way, or when other parameters have gradients than in the step before.
  void step_unless(const LateFlag& left_out);
  /// step() for one parameter, whose place in parameters() is `index`.
  void step_parameter(size_t index);
  /// Forgets all gradients.
  void zero_grad();
  /// For optimizers that evaluate the model elsewhere than they train it (schedule-free ones):
  /// eval() moves the parameters to where they are to be evaluated and saved, train() back. Others
  /// do nothing.
  virtual void train() {}
  virtual void eval() {}
  /// Of all groups, in the order in which they were added.
  std::vector<Tensor> parameters() const;
  const std::string& parameter_name(size_t index) const { return slots_.at(index).name; }

  // ---- layer-wise: see layerwise.h

  /// From now on backward() itself updates each parameter as soon as its gradient is complete, and
  /// frees the gradient; step() then finds nothing left to do. A second call changes the options.
  void update_in_backward();
  void update_in_backward(const BackwardUpdateOptions& options);
  bool updates_in_backward() const { return backward_updates_ != nullptr; }
  /// Error unless update_in_backward() was called.
  BackwardUpdates& backward_updates();

  // ---- learning rates: each group has a base rate, and a current one that step() uses

  size_t group_count() const { return groups_.size(); }
  double lr(size_t group = 0) const;
  /// Sets the current rate of one group, or of all.
  void set_lr(double lr);
  void set_lr(size_t group, double lr);
  /// Current rate = base rate * factor in every group: for schedules, which are functions of the
  /// step.
  void scale_lr(double factor);

  // ---- state

  /// Waits for a GPU after step_unless(), which decides what was a step. What step() has
  /// accumulated: "<parameter>.step" (i64, one element), tensors such as
  /// "<parameter>.exp_avg", mostly of the parameter's shape, and numbers (f64, one element);
  /// nothing for a parameter never updated. They share memory with the optimizer: clone to keep.
  /// Options and learning rates are the program's and not part of it.
  StateDict state_dict() const;
  /// Bytes of the tensors in state_dict() once every parameter has been updated, masters included,
  /// without making them.
  int64_t state_bytes() const;
  /// Replaces the whole state; a parameter that `state` does not mention starts anew. Error that
  /// lists every unknown name, wrong shape and incomplete parameter, and then nothing has been
  /// changed.
  void load_state_dict(const StateDict& state);

 protected:
  /// One parameter and what the rule keeps for it.
  struct Slot {
    std::string name;
    Tensor parameter;
    size_t group = 0;
    int64_t step = 0;  // updates so far, the current one included
    std::map<std::string, Tensor> state;
    std::map<std::string, double> numbers;
  };
  /// A tensor that a rule keeps.
  struct StateSpec {
    std::string name;
    Shape shape;
    std::optional<DType> dtype = {};  // else f64 for f64 parameters and f32 for others
  };

  Optimizer();
  /// Error for an undefined or integer tensor, a non-leaf, a strided parameter, one that is in this
  /// optimizer already or a second use of a name.
  void register_group(const std::vector<NamedTensor>& parameters, double lr);
  /// The state tensor of this name, on the parameter's device; when there is none it is made, full
  /// of `initial`.
  static Tensor& state_of(Slot& slot, const std::string& name, double initial = 0.0);
  static Tensor& state_of(Slot& slot, const StateSpec& spec, double initial = 0.0);
  /// Every parameter, in the order of registration.
  std::span<Slot> slots() { return slots_; }
  /// The f32 master of a 16-bit parameter, made from it when there is none; undefined for wider
  /// ones.
  static Tensor master_of(Slot& slot);
  /// Whether the parameter has such a master; a rule that can do without says so.
  virtual bool keeps_master(const Slot& slot) const;

  /// Applies the rule to one parameter; several threads may do so for different ones at once.
  virtual void update(Slot& slot, const Tensor& gradient, double lr);
  /// Applies the rule to all parameters that have a gradient: with update(), unless a rule whose
  /// kernels take many parameters at once overrides this instead.
  virtual void update_all(std::span<Slot* const> slots);
  /// Whether update_all() does all that it does behind gate(), and decides by nothing on the host
  /// but options, rates and Slot::step. Then step_unless() need not wait; it calls update_all() for
  /// several values of Slot::step, and the gate opens for the right one.
  virtual bool can_be_gated() const { return false; }
  const ops::StepGate& gate() const;
  /// The state tensors that this parameter has after an update, the master aside.
  virtual std::vector<StateSpec> state_specs(const Slot& slot) const = 0;
  /// State tensors of the parameter's shape.
  static std::vector<StateSpec> like_parameter(const Slot& slot,
                                               std::initializer_list<const char*> names);
  /// The numbers that this parameter has after an update.
  virtual std::vector<std::string> number_names(const Slot&) const { return {}; }

 private:
  struct Group {
    double base_lr, lr;
  };
  std::vector<StateSpec> expected_state(const Slot& slot) const;
  static DType dtype_of_state(const Slot& slot, const StateSpec& spec);
  std::vector<Slot*> slots_with_gradients();
  void update_counted(std::span<Slot* const> slots);

  // ---- steps that a GPU may have left out; in step_unless.cpp
  struct StepsInDoubt;
  void step_in_doubt(const std::vector<Slot*>& slots, const LateFlag& left_out);
  /// Waits until none is in doubt.
  void settle_steps();
  /// Of this parameter; waits likewise.
  int64_t steps_of(const Slot& slot) const;

  std::vector<Group> groups_;
  std::vector<Slot> slots_;
  std::unique_ptr<BackwardUpdates> backward_updates_;  // null: step() updates
  std::unique_ptr<StepsInDoubt> in_doubt_;  // null before step_unless() had to do with a GPU
};

/// Names "0", "1", ... for parameters that have none.
TENDRIL_API std::vector<NamedTensor> numbered(const std::vector<Tensor>& parameters);

/// The usual split for weight decay: tensors of two and more axes are decayed, biases and norms are
/// not.
struct DecaySplit {
  std::vector<NamedTensor> decayed, kept;
};
TENDRIL_API DecaySplit split_for_decay(const std::vector<NamedTensor>& parameters);

}  // namespace tendril::optim
