// New tensors from nothing. Random ones draw from default_generator() unless given a key. They are
// the same bits on every device, but for normal numbers, whose last bit may differ.
#pragma once

#include <optional>

#include <tendril/core/random.h>
#include <tendril/core/tensor.h>

namespace tendril {

TENDRIL_API Tensor full(const Shape& shape, double value, DType dtype = f32,
                        Device device = Device::cpu());
TENDRIL_API Tensor zeros(const Shape& shape, DType dtype = f32, Device device = Device::cpu());
TENDRIL_API Tensor ones(const Shape& shape, DType dtype = f32, Device device = Device::cpu());
TENDRIL_API Tensor empty_like(const Tensor& x);
TENDRIL_API Tensor zeros_like(const Tensor& x);
TENDRIL_API Tensor ones_like(const Tensor& x);
TENDRIL_API Tensor full_like(const Tensor& x, double value);
/// start, start + step, ... below stop (above, for a negative step).
TENDRIL_API Tensor arange(double start, double stop, double step = 1.0, DType dtype = i64,
                          Device device = Device::cpu());
TENDRIL_API Tensor arange(int64_t stop, DType dtype = i64, Device device = Device::cpu());
/// `count` numbers from start to stop, both included.
TENDRIL_API Tensor linspace(double start, double stop, int64_t count, DType dtype = f32,
                            Device device = Device::cpu());
TENDRIL_API Tensor eye(int64_t rows, int64_t columns = -1, DType dtype = f32,
                       Device device = Device::cpu());

/// Uniform in [0, 1).
TENDRIL_API Tensor rand(const Shape& shape, DType dtype = f32, std::optional<RandomKey> key = {},
                        Device device = Device::cpu());
/// Standard normal.
TENDRIL_API Tensor randn(const Shape& shape, DType dtype = f32, std::optional<RandomKey> key = {},
                         Device device = Device::cpu());
/// Uniform integers in [low, high).
TENDRIL_API Tensor randint(int64_t low, int64_t high, const Shape& shape, DType dtype = i64,
                           std::optional<RandomKey> key = {}, Device device = Device::cpu());

}  // namespace tendril
