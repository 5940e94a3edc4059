#include <doctest/doctest.h>
#include <sys/stat.h>

#include <tendril/core/file.h>

#include "file_tools.h"

using namespace tendril;
using namespace tendril::testing;

TEST_SUITE_BEGIN("file");

TEST_CASE("text files are written and read whole") {
  const TemporaryFolder folder;
  const std::string path = folder.file("x");
  write_text_file(path, "{\"a\": 1}\n");
  CHECK(read_text_file(path) == "{\"a\": 1}\n");
  write_text_file(path, "");
  CHECK(read_text_file(path).empty());
  CHECK(folder.file_count() == 1);
  CHECK(contains_text(error_of([&] { read_text_file(folder.file("none")); }), "cannot open"));
  CHECK(contains_text(error_of([&] { read_text_file(folder.path().string()); }),
                      "not a regular file"));
  CHECK(contains_text(error_of([] { read_text_file("/dev/null"); }), "not a regular file"));
}

TEST_CASE("an atomic file takes its name on commit and disappears without") {
  const TemporaryFolder folder;
  const std::string path = folder.file("x");
  write_text_file(path, "old");
  {
    AtomicFile file(path);
    file.write("half of the ne");
    CHECK(read_text_file(path) == "old");
    CHECK(folder.file_count() == 2);
  }
  CHECK(read_text_file(path) == "old");
  CHECK(folder.file_count() == 1);
  AtomicFile file(path);
  file.write("new");
  file.commit();
  CHECK(read_text_file(path) == "new");
  CHECK(folder.file_count() == 1);
  CHECK(contains_text(error_of([&] { file.write("more"); }), "committed"));
  CHECK(contains_text(error_of([&] { file.commit(); }), "committed"));
}

TEST_CASE("new files have the permissions that the user's mask allows") {
  const TemporaryFolder folder;
  const mode_t before = ::umask(027);
  write_text_file(folder.file("x"), "x");
  ::umask(before);
  struct stat info;
  REQUIRE(::stat(folder.file("x").c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0640);
}

TEST_CASE("two writers of one file do not disturb each other") {
  const TemporaryFolder folder;
  AtomicFile first(folder.file("x")), second(folder.file("x"));
  first.write("first");
  second.write("second");
  second.commit();
  first.commit();
  CHECK(read_text_file(folder.file("x")) == "first");
  CHECK(folder.file_count() == 1);
}

TEST_CASE("a relative path without a folder") {
  const TemporaryFolder folder;
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(folder.path());
  const std::string error = error_of([] { write_text_file("x", "here"); });
  std::filesystem::current_path(before);
  CHECK(error.empty());
  CHECK(read_text_file(folder.file("x")) == "here");
}

TEST_CASE("a folder is synced if it is one") {
  const TemporaryFolder folder;
  CHECK(error_of([&] { sync_folder(folder.path().string()); }).empty());
  CHECK(contains_text(error_of([&] { sync_folder(folder.file("none")); }), folder.file("none")));
}

TEST_CASE("changes in a mapping stay in memory") {
  const TemporaryFolder folder;
  write_text_file(folder.file("x"), "abc");
  const auto mapped = MappedFile::open(folder.file("x"));
  CHECK(mapped->text() == "abc");
  mapped->data()[0] = 'X';
  CHECK(mapped->text() == "Xbc");
  CHECK(read_text_file(folder.file("x")) == "abc");
}

TEST_SUITE_END();
