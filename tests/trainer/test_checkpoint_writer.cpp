#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
#include <random>

#include <tendril/trainer/checkpoint/partial_folder.h>

#include "checkpoint_files.h"

using namespace tendril;
using namespace tendril::testing;
namespace fs = std::filesystem;
using Names = std::vector<std::string>;

namespace {

struct Fixture {
  TemporaryFolder folder{memory_folder()};
  fs::path output = folder.path() / "out";
  fs::path checkpoint = output / "checkpoint-500";
};

}  // namespace

TEST_SUITE_BEGIN("checkpoint_writer");

TEST_CASE_FIXTURE(Fixture, "a checkpoint appears with all its files, and nothing beside it") {
  CheckpointWriter writer(checkpoint);
  writer.text("a.txt", "123456789");
  writer.text("sub/b.txt", "");
  writer.tensors("model.safetensors", {{"w", Tensor::from<float>({1, 2}, {2})}}, {{"k", "v"}});
  CHECK_FALSE(fs::exists(checkpoint));
  CHECK(list_checkpoints(output).empty());
  writer.commit();
  CHECK(names_in(output) == Names{"checkpoint-500"});
  CHECK(names_in(checkpoint) == Names{"a.txt", "manifest.json", "model.safetensors", "sub"});
  CHECK(checkpoint_faults(checkpoint).empty());
  CHECK(read_bytes((checkpoint / "a.txt").string()) == "123456789");
  const auto file = SafetensorsFile::open((checkpoint / "model.safetensors").string());
  CHECK(file.tensor("w").to_vector<float>() == std::vector<float>{1, 2});
  CHECK(file.metadata() == std::map<std::string, std::string>{{"k", "v"}});
}

TEST_CASE_FIXTURE(Fixture, "the manifest, byte for byte") {
  CheckpointWriter writer(checkpoint);
  writer.text("z.txt", "123456789");
  writer.text("a/empty", "");
  writer.commit();
  // e3069283 is the checksum's published check value; 43780f6a, of the text before it, comes from a
  // bit-by-bit computation elsewhere.
  CHECK(read_bytes((checkpoint / "manifest.json").string()) == R"({
  "format": "tendril checkpoint",
  "version": 1,
  "files": {
    "a/empty": {"bytes": 0, "crc32c": "00000000"},
    "z.txt": {"bytes": 9, "crc32c": "e3069283"}
  },
  "crc32c": "43780f6a"
}
)");
}

TEST_CASE_FIXTURE(Fixture, "without commit nothing remains and the older one stays") {
  write_sample(checkpoint, 1);
  {
    CheckpointWriter writer(checkpoint);
    writer.text("trainer_state.json", "half");
    CHECK(names_in(output).size() == 2);
    CHECK(sample_version(checkpoint) == 1);
  }
  CHECK(names_in(output) == Names{"checkpoint-500"});
  CHECK(checkpoint_faults(checkpoint).empty());
  CHECK(sample_version(checkpoint) == 1);
}

TEST_CASE_FIXTURE(Fixture, "a checkpoint takes the place of an older one, whose files all go") {
  write_sample(checkpoint, 1);
  write_bytes((checkpoint / "of the old one").string(), "x");
  write_sample(checkpoint, 2);
  CHECK(names_in(output) == Names{"checkpoint-500"});
  CHECK(names_in(checkpoint) ==
        Names{"callbacks", "manifest.json", "model.safetensors", "trainer_state.json"});
  CHECK(sample_version(checkpoint) == 2);
}

TEST_CASE_FIXTURE(Fixture, "the place of an empty folder, or of a link to another disk's folder") {
  fs::create_directories(checkpoint);
  write_sample(checkpoint, 1);
  CHECK(sample_version(checkpoint) == 1);
  const fs::path elsewhere = folder.path() / "elsewhere";
  fs::rename(checkpoint, elsewhere);
  fs::create_directory_symlink(elsewhere, checkpoint);
  write_sample(checkpoint, 2);
  CHECK(sample_version(checkpoint) == 2);
  CHECK(sample_version(elsewhere) == 1);  // the link was replaced, not what it pointed to
  CHECK(names_in(output) == Names{"checkpoint-500"});
}

TEST_CASE_FIXTURE(Fixture, "where names cannot be exchanged the older one steps aside") {
  write_sample(checkpoint, 1);
  write_sample(output / "new", 2);
  const fs::path old = detail::replace_folder(output / "new", checkpoint, /*may_exchange=*/false);
  CHECK(sample_version(checkpoint) == 2);
  CHECK(sample_version(old) == 1);
  CHECK(list_checkpoints(output).size() == 1);
  // A failure of the second rename takes the first one back.
  const std::string error =
      error_of([&] { detail::replace_folder(output / "none", checkpoint, false); });
  CHECK(contains_text(error, "cannot rename"));
  CHECK(contains_text(error, "No such file"));
  CHECK(sample_version(checkpoint) == 2);
}

TEST_CASE_FIXTURE(Fixture, "paths of every form") {
  write_sample(checkpoint.string() + "/", 1);
  CHECK(sample_version(checkpoint) == 1);
  const fs::path before = fs::current_path();
  fs::current_path(output);
  write_sample("checkpoint-7", 2);
  write_sample("./deep/down/checkpoint-8", 3);
  fs::current_path(before);
  CHECK(sample_version(output / "checkpoint-7") == 2);
  CHECK(sample_version(output / "deep/down/checkpoint-8") == 3);
  for (const char* nowhere : {"", "/", ".", "..", "a/.."})
    CHECK(contains_text(error_of([&] { CheckpointWriter{nowhere}; }), "cannot be a checkpoint"));
  write_bytes((output / "file").string(), "x");
  CHECK(contains_text(error_of([&] { CheckpointWriter{output / "file"}; }), "is not a folder"));
}

TEST_CASE_FIXTURE(Fixture,
                  "names that lead out of the folder, or are the manifest's, are refused") {
  CheckpointWriter writer(checkpoint);
  const std::string zero("a\0b", 3);
  for (const std::string& name :
       Names{"", ".", "..", "../x", "/tmp/x", "a/../../x", "a/", "./a", "manifest.json", zero})
    CHECK(
        contains_text(error_of([&] { writer.text(name, "x"); }), "must be a relative path inside"));
  write_bytes((writer.folder() / "manifest.json").string(), "mine");
  CHECK(contains_text(error_of([&] { writer.commit(); }), "manifest's name"));
}

TEST_CASE_FIXTURE(Fixture, "what other code wrote is recorded; what is no file is refused") {
  {
    CheckpointWriter writer(checkpoint);
    fs::create_directories(writer.folder() / "x/y");
    write_bytes((writer.folder() / "x/y/z").string(), "deep");
    writer.commit();
  }
  fs::remove(checkpoint / "x/y/z");
  CHECK(checkpoint_faults(checkpoint) == Names{"x/y/z: missing"});
  CheckpointWriter writer(checkpoint);
  fs::create_symlink("/etc/passwd", writer.folder() / "link");
  CHECK(contains_text(error_of([&] { writer.commit(); }), "/link is neither a file nor a folder"));
}

TEST_CASE_FIXTURE(Fixture, "a committed writer takes nothing more") {
  CheckpointWriter writer(checkpoint);
  writer.commit();
  CHECK(contains_text(error_of([&] { writer.text("a", "b"); }), "was committed"));
  CHECK(contains_text(error_of([&] { writer.folder(); }), "was committed"));
  CHECK(contains_text(error_of([&] { writer.commit(); }), "was committed"));
}

TEST_CASE_FIXTURE(Fixture, "two writers of one checkpoint do not disturb each other") {
  CheckpointWriter first(checkpoint), second(checkpoint);
  first.text("a", "first");
  second.text("a", "second");
  second.commit();
  CHECK(read_bytes((checkpoint / "a").string()) == "second");
  first.commit();
  CHECK(read_bytes((checkpoint / "a").string()) == "first");
  CHECK(checkpoint_faults(checkpoint).empty());
  CHECK(names_in(output) == Names{"checkpoint-500"});
}

TEST_CASE_FIXTURE(Fixture, "what a killed process left goes; a living one's stays") {
  int ready[2];
  REQUIRE(::pipe(ready) == 0);
  const pid_t child = start_child([&] {
    CheckpointWriter writer(output / "checkpoint-1");
    writer.text("a", "x");
    if (::write(ready[1], "x", 1) != 1) return 1;
    for (;;) ::pause();
  });
  REQUIRE(child > 0);
  char byte;
  REQUIRE(::read(ready[0], &byte, 1) == 1);
  ::close(ready[0]);
  ::close(ready[1]);
  // Similar names that are not ours to remove.
  fs::create_directories(output / ".checkpoint-9.partial");
  write_bytes((output / ".file.partial-1-1").string(), "x");
  const fs::path elsewhere = folder.path() / "elsewhere";
  fs::create_directories(elsewhere);
  fs::create_directory_symlink(elsewhere, output / ".link.partial-1-1");

  write_sample(output / "checkpoint-2");
  CHECK(names_in(output).size() == 5);  // with the child's
  REQUIRE(::kill(child, SIGKILL) == 0);
  CHECK(end_of_child(child) == -SIGKILL);
  CHECK(names_in(output).size() == 5);
  write_sample(output / "checkpoint-3");
  CHECK(names_in(output) == Names{".checkpoint-9.partial", ".file.partial-1-1", ".link.partial-1-1",
                                  "checkpoint-2", "checkpoint-3"});
  CHECK(fs::exists(elsewhere));
}

TEST_CASE_FIXTURE(Fixture, "a kill at any moment leaves the old checkpoint or the new one, whole") {
  write_sample(checkpoint, 0);
  std::mt19937_64 random(7);
  int in_the_middle = 0, version = 0;
  // 150 kills are about half a second; a busy machine may need more for as many in the middle.
  for (int round = 0; round < 150 || (round < 2000 && in_the_middle < 20); ++round) {
    StartSign sign;
    const pid_t child = start_child([&] {
      for (int next = version + 1;; ++next) {
        write_sample(checkpoint, next);
        sign.give();
      }
      return 0;
    });
    REQUIRE(child > 0);
    REQUIRE(sign.await());
    ::usleep(static_cast<useconds_t>(random() % 3000));
    REQUIRE(::kill(child, SIGKILL) == 0);
    REQUIRE(end_of_child(child) == -SIGKILL);  // it did not fail by itself
    in_the_middle += names_in(output).size() > 1;
    REQUIRE(list_checkpoints(output).size() == 1);
    REQUIRE(checkpoint_faults(checkpoint) == Names{});
    const int found = sample_version(checkpoint);
    REQUIRE(found >= version);
    version = found;
  }
  // The kills did come while there was something to break.
  CHECK(in_the_middle >= 20);
  CHECK(version > 0);
  write_sample(checkpoint, version);
  CHECK(names_in(output) == Names{"checkpoint-500"});
}

TEST_CASE_FIXTURE(Fixture, "a disk that is full half way is an error, and the old one stays") {
  write_sample(checkpoint, 1);
  int channel[2];
  REQUIRE(::pipe(channel) == 0);
  // No file of the child may grow beyond the limit: writing fails in the middle of the one that is
  // too long, as it would on a full disk.
  const pid_t child = start_child([&] {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{4096, 4096};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 1;
    const auto report = [&](const std::string& error) {
      const std::string line = error + "\n";
      return ::write(channel[1], line.data(), line.size()) == static_cast<ssize_t>(line.size());
    };
    const std::vector<float> numbers(2000, 1.0f);
    const bool told = report(error_of([&] {
                        CheckpointWriter writer(checkpoint);
                        writer.text("small", "fits");
                        writer.tensors("model.safetensors", {{"w", Tensor::from(numbers, {2000})}});
                        writer.commit();
                      })) &&
                      report(error_of([&] {
                        CheckpointWriter writer(checkpoint);
                        writer.text("long.json", std::string(5000, 'x'));
                        writer.commit();
                      })) &&
                      report(error_of([&] {  // the manifest itself does not fit
                        CheckpointWriter writer(checkpoint);
                        for (int i = 0; i < 100; ++i)
                          writer.text("file " + std::to_string(i), "fits");
                        writer.commit();
                      }));
    return told ? 0 : 2;
  });
  ::close(channel[1]);
  std::string errors;
  char buffer[4096];
  for (ssize_t count; (count = ::read(channel[0], buffer, sizeof buffer)) > 0;)
    errors.append(buffer, static_cast<size_t>(count));
  ::close(channel[0]);
  REQUIRE(end_of_child(child) == 0);
  CAPTURE(errors);
  CHECK(std::count(errors.begin(), errors.end(), '\n') == 3);
  for (const char* name : {"/model.safetensors: File too large", "/long.json: File too large",
                           "/manifest.json: File too large"})
    CHECK(contains_text(errors, name));
  CHECK(names_in(output) == Names{"checkpoint-500"});
  CHECK(checkpoint_faults(checkpoint).empty());
  CHECK(sample_version(checkpoint) == 1);
}

TEST_CASE_FIXTURE(Fixture, "where nothing can be written is an error with path and reason") {
  write_bytes(folder.file("file"), "x");
  CHECK(contains_text(error_of([&] { CheckpointWriter{folder.path() / "file/checkpoint-1"}; }),
                      "/file: Not a directory"));
  const std::string error = error_of([] { CheckpointWriter{"/proc/checkpoint-1"}; });
  CHECK(contains_text(error, "/proc"));
  CHECK(contains_text(error, ": "));
  if (::geteuid() == 0) return;  // root may write into a read-only folder
  fs::create_directories(output);
  fs::permissions(output, fs::perms::owner_read | fs::perms::owner_exec);
  const std::string denied = error_of([&] { CheckpointWriter{checkpoint}; });
  fs::permissions(output, fs::perms::owner_all);
  CHECK(contains_text(denied, "checkpoint-500"));
  CHECK(contains_text(denied, "Permission denied"));
}

TEST_SUITE_END();
