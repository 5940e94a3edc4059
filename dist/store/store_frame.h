// Private to dist: how requests and replies of the store look on the wire.
//
//   4 bytes  length of what follows     little endian, like all numbers
//   1 byte   kind
//   8 bytes  number                     milliseconds to wait, an increment, an age, a counter
//   4 bytes  length of the key          a reply has none
//            key, then value
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <tendril/core/api.h>

namespace tendril::dist {

struct Frame {
  // What a client asks for.
  static constexpr uint8_t hello = 1;     // key: the protocol's name, value: the token of the job
  static constexpr uint8_t set = 2;       // key, value
  static constexpr uint8_t set_once = 3;  // unless the key has a value
  static constexpr uint8_t get = 4;       // waits `number` milliseconds for the key to be set
  static constexpr uint8_t add = 5;       // adds `number` to a counter
  static constexpr uint8_t will = 6;      // set_once when this connection ends; "": nothing
  // What the store answers.
  static constexpr uint8_t done = 16;     // number: of a counter, or milliseconds since it was set
  static constexpr uint8_t nothing = 17;  // no value within that time
  static constexpr uint8_t refused = 18;  // value: why
  static constexpr uint8_t closing = 19;  // the store ends, in good order

  static constexpr size_t largest = size_t{1} << 20;  // of the length field
  static constexpr std::string_view protocol = "tendril store 1";

  uint8_t kind = 0;
  int64_t number = 0;
  std::string key, value;
};

TENDRIL_API std::string encode(const Frame& frame);

/// Takes the first frame out of `bytes`; none when it is not complete. Error when this cannot
/// become a frame of at most `largest` bytes.
TENDRIL_API std::optional<Frame> take_frame(std::string& bytes, size_t largest = Frame::largest);

}  // namespace tendril::dist
