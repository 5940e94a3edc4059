#include <tendril/trainer/callbacks/reporters/event_file.h>

#include <unistd.h>

#include <bit>
#include <chrono>
#include <filesystem>

#include <tendril/core/crc32c.h>
#include <tendril/trainer/callbacks/reporters/run_folder.h>

namespace tendril {
namespace {

std::string little_endian(uint64_t value, int bytes) {
  std::string result;
  for (int i = 0; i < bytes; ++i) result += static_cast<char>(value >> (8 * i) & 0xFF);
  return result;
}

// One protobuf message, field by field. A field begins with its number and how it is encoded.
class Message {
 public:
  Message& integer(int field, int64_t value) {
    varint(key(field, 0));
    varint(static_cast<uint64_t>(value));
    return *this;
  }
  Message& f64(int field, double value) {
    varint(key(field, 1));
    bytes_ += little_endian(std::bit_cast<uint64_t>(value), 8);
    return *this;
  }
  Message& f32(int field, float value) {
    varint(key(field, 5));
    bytes_ += little_endian(std::bit_cast<uint32_t>(value), 4);
    return *this;
  }
  Message& bytes(int field, std::string_view value) {
    varint(key(field, 2));
    varint(value.size());
    bytes_ += value;
    return *this;
  }
  Message& message(int field, const Message& value) { return bytes(field, value.bytes_); }
  const std::string& encoded() const { return bytes_; }

 private:
  static uint64_t key(int field, int encoding) {
    return static_cast<uint64_t>(field) << 3 | static_cast<uint64_t>(encoding);
  }
  // Seven bits per byte from the lowest; the high bit says that more follow.
  void varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>(value | 0x80);
    bytes_ += static_cast<char>(value);
  }
  std::string bytes_;
};

// Field numbers of the messages.
namespace event {
constexpr int kWallTime = 1, kStep = 2, kFileVersion = 3, kSummary = 5, kSessionLog = 7;
}
namespace summary {
constexpr int kValue = 1;                                              // of Summary
constexpr int kTag = 1, kSimpleValue = 2, kTensor = 8, kMetadata = 9;  // of Summary.Value
constexpr int kPluginData = 1, kPluginName = 1;                        // of SummaryMetadata
}  // namespace summary
namespace tensor {
constexpr int kDtype = 1, kShape = 2, kStringValue = 8, kDim = 2, kDimSize = 1;
constexpr int64_t kString = 7;  // DT_STRING
}  // namespace tensor
namespace session {
constexpr int kStatus = 1;
constexpr int64_t kStart = 1;
}  // namespace session

// The stored checksum is rotated and shifted, since checksums of data that holds checksums are
// weak.
std::string masked_checksum(std::string_view data) {
  const uint32_t checksum = crc32c(data.data(), data.size());
  return little_endian(std::rotr(checksum, 15) + 0xA282EAD8u, 4);
}

// length (u64), its checksum, the data, its checksum.
std::string record(std::string_view data) {
  const std::string length = little_endian(data.size(), 8);
  return length + masked_checksum(length) + std::string(data) + masked_checksum(data);
}

Message now() {
  const auto time = std::chrono::system_clock::now().time_since_epoch();
  return Message().f64(event::kWallTime, std::chrono::duration<double>(time).count());
}

std::unique_ptr<AppendFile> new_file(const std::string& folder) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(
      std::chrono::system_clock::now().time_since_epoch());
  const std::string name = folder + "/events.out.tfevents." + std::to_string(seconds.count()) +
                           "." + host_name() + "." + std::to_string(::getpid());
  std::string free_name = name;
  for (int i = 1; std::filesystem::exists(free_name); ++i)
    free_name = name + "." + std::to_string(i);
  return std::make_unique<AppendFile>(free_name, AppendFile::Mode::create_new);
}

}  // namespace

EventFile::EventFile(const std::string& folder) : file_(new_file(folder)) {
  file_->write(record(now().bytes(event::kFileVersion, "brain.Event:2").encoded()));
}

void EventFile::scalars(int64_t step, const std::vector<ScalarSummary>& values) {
  Message all;
  for (const ScalarSummary& value : values)
    all.message(summary::kValue, Message()
                                     .bytes(summary::kTag, value.tag)
                                     .f32(summary::kSimpleValue, static_cast<float>(value.value)));
  file_->write(record(now().integer(event::kStep, step).message(event::kSummary, all).encoded()));
}

void EventFile::text(int64_t step, const std::string& tag, std::string_view content) {
  const Message plugin = Message().bytes(summary::kPluginName, "text");
  const Message shape = Message().message(tensor::kDim, Message().integer(tensor::kDimSize, 1));
  const Message value =
      Message()
          .bytes(summary::kTag, tag + "/text_summary")
          .message(summary::kTensor, Message()
                                         .integer(tensor::kDtype, tensor::kString)
                                         .message(tensor::kShape, shape)
                                         .bytes(tensor::kStringValue, content))
          .message(summary::kMetadata, Message().message(summary::kPluginData, plugin));
  file_->write(record(now()
                          .integer(event::kStep, step)
                          .message(event::kSummary, Message().message(summary::kValue, value))
                          .encoded()));
}

void EventFile::session_start(int64_t first_step) {
  const Message start = Message().integer(session::kStatus, session::kStart);
  file_->write(
      record(now().integer(event::kStep, first_step).message(event::kSessionLog, start).encoded()));
}

}  // namespace tendril
