/* How full the filesystems of a node are, by df(1). */

#include "plugin.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* `plugin.h` is made of wit/ by `windlass plugin build`: see target/plugin/c. */
typedef exports_local_{{snake}}_disk_filesystem_usage_t usage_t;
typedef exports_local_{{snake}}_disk_usage_error_t error_t;

#define ERROR_DENIED EXPORTS_LOCAL_{{upper}}_DISK_USAGE_ERROR_DENIED
#define ERROR_NOT_FOUND EXPORTS_LOCAL_{{upper}}_DISK_USAGE_ERROR_NOT_FOUND
#define ERROR_FAILED EXPORTS_LOCAL_{{upper}}_DISK_USAGE_ERROR_FAILED

/* A text of its own, ended by NUL. Memory is never given back: each call has an instance to itself. */
static char *text_of(const uint8_t *bytes, size_t length) {
  char *text = malloc(length + 1);
  if (text == NULL) abort();
  memcpy(text, bytes, length);
  text[length] = '\0';
  return text;
}

/* Gives back false, as an operation that fails does. */
static bool fail(error_t *error, uint8_t kind, const char *message) {
  error->tag = kind;
  plugin_string_dup(&error->val.denied, message); /* every case holds a text */
  return false;
}

static bool not_understood(error_t *error, const char *line) {
  char message[256];
  snprintf(message, sizeof message, "df printed `%.180s`, which is not understood", line);
  return fail(error, ERROR_FAILED, message);
}

static bool is_number(const char *word) {
  return *word != '\0' && strspn(word, "0123456789") == strlen(word);
}

/* The words from `first` up to `end`, with one space between them. */
static void join(plugin_string_t *to, char **words, size_t first, size_t end) {
  size_t length = 0;
  for (size_t i = first; i < end; i++) length += strlen(words[i]) + 1;
  char *text = malloc(length + 1);
  if (text == NULL) abort();
  char *at = text;
  for (size_t i = first; i < end; i++) at += sprintf(at, i == first ? "%s" : " %s", words[i]);
  *at = '\0';
  plugin_string_set(to, text);
}

/* Reads a headline and a line such as `/dev/sda1 1000 400 550 /srv`. Names may hold spaces. */
static bool parse(char *output, usage_t *usage, error_t *error) {
  enum { MAX_WORDS = 256 };
  char *words[MAX_WORDS];
  size_t count = 0;
  strtok(output, "\n");
  char *line = strtok(NULL, "\n");
  if (line == NULL) return not_understood(error, "");
  char *whole = text_of((const uint8_t *)line, strlen(line));
  for (char *word = strtok(line, " \t"); word != NULL; word = strtok(NULL, " \t")) {
    if (count == MAX_WORDS) return not_understood(error, whole);
    words[count++] = word;
  }
  /* The first three numbers in a row are the sizes: what is before and behind them are names. */
  for (size_t at = 1; at + 3 < count; at++) {
    if (is_number(words[at]) && is_number(words[at + 1]) && is_number(words[at + 2])) {
      join(&usage->filesystem, words, 0, at);
      usage->size_bytes = strtoull(words[at], NULL, 10);
      usage->used_bytes = strtoull(words[at + 1], NULL, 10);
      usage->available_bytes = strtoull(words[at + 2], NULL, 10);
      join(&usage->mounted_on, words, at + 3, count);
      return true;
    }
  }
  return not_understood(error, whole);
}

/* disk.usage of wit/world.wit. True: *usage is the result; false: *error is. */
bool exports_local_{{snake}}_disk_usage(plugin_string_t *path, usage_t *usage, error_t *error) {
  plugin_string_t args[3];
  plugin_string_set(&args[0], "-B1");
  plugin_string_set(&args[1], "--output=source,size,used,avail,target");
  args[2] = *path;
  windlass_host_commands_command_t command = {.args = {.ptr = args, .len = 3}};
  plugin_string_set(&command.program, "df");

  windlass_host_commands_output_t output;
  windlass_host_commands_error_t problem;
  if (!windlass_host_commands_run(&command, &output, &problem)) {
    switch (problem.tag) {
      case WINDLASS_HOST_COMMANDS_ERROR_DENIED:
        return fail(error, ERROR_DENIED, text_of(problem.val.denied.ptr, problem.val.denied.len));
      case WINDLASS_HOST_COMMANDS_ERROR_NOT_FOUND:
        return fail(error, ERROR_NOT_FOUND,
                    text_of(problem.val.not_found.ptr, problem.val.not_found.len));
      default:
        return fail(error, ERROR_FAILED, "df did not run to its end");
    }
  }
  if (output.status.tag != WINDLASS_HOST_COMMANDS_EXIT_STATUS_CODE || output.status.val.code != 0) {
    char *message = text_of(output.stderr_.ptr, output.stderr_.len);
    message[strcspn(message, "\n")] = '\0';
    bool missing = strstr(message, "No such file or directory") != NULL;
    return fail(error, missing ? ERROR_NOT_FOUND : ERROR_FAILED, message);
  }
  return parse(text_of(output.stdout_.ptr, output.stdout_.len), usage, error);
}
