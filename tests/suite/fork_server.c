// Preloaded into the program by tests. The program's libraries are loaded and initialized once, which takes half a second;
// then a process is forked for each connection to a socket, and goes on into the program's own start with the arguments,
// environment, folder and output files of the request.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

typedef int program(int, char **, char **);
typedef int start(program *, int, char **, void (*)(void), void (*)(void), void (*)(void), void *);

extern char **environ;

static void require(int holds, const char *what) {
    if (!holds) {
        perror(what);
        _exit(111);
    }
}

// Reads zero-terminated strings until the other side writes no more. The list ends with a null.
static char **strings(int connection) {
    size_t length = 0, space = 1 << 16, count = 0;
    char *bytes = malloc(space);
    for (;;) {
        ssize_t got = read(connection, bytes + length, space - length);
        require(got >= 0, "read");
        if (got == 0)
            break;
        length += got;
        if (length == space)
            bytes = realloc(bytes, space *= 2);
        require(bytes != NULL, "memory");
    }
    char **list = calloc(length + 1, sizeof *list);
    require(list != NULL, "memory");
    for (size_t at = 0; at < length; at += strlen(bytes + at) + 1)
        list[count++] = bytes + at;
    return list;
}

static void redirect(const char *path, int flags, int to) {
    int file = open(path, flags | O_CREAT, 0600);
    require(file >= 0 && dup2(file, to) == to && close(file) == 0, path);
}

// The request's variables, and those with which the program was prepared.
static char **merged(char **requested) {
    size_t all = 0, count = 0;
    for (char **entry = requested; *entry; entry++)
        all++;
    for (char **entry = environ; *entry; entry++)
        all++;
    char **list = calloc(all + 1, sizeof *list);
    require(list != NULL, "memory");
    for (char **entry = environ; *entry; entry++)
        if (strncmp(*entry, "LD_", 3) && strncmp(*entry, "FORK_SERVER_", 12))
            list[count++] = *entry;
    for (char **entry = requested; *entry; entry++) {
        size_t name = strcspn(*entry, "=") + 1, other = 0;
        while (other < count && strncmp(list[other], *entry, name))
            other++;
        if (other == count)
            list[count++] = *entry;
    }
    return list;
}

// Becomes the process of a request: limit of data in bytes or 0, folder, files for stdout and stderr, number of arguments,
// arguments, variables.
static void become(char **request, int *argc, char ***argv) {
    struct rlimit data = {strtoull(request[0], NULL, 10), RLIM_INFINITY};
    require(data.rlim_cur == 0 || setrlimit(RLIMIT_DATA, &data) == 0, "setrlimit");
    require(chdir(request[1]) == 0, request[1]);
    redirect("/dev/null", O_RDONLY, 0);
    redirect(request[2], O_WRONLY | O_APPEND, 1);
    redirect(request[3], O_WRONLY | O_APPEND, 2);
    *argc = atoi(request[4]);
    *argv = calloc(*argc + 1, sizeof **argv);
    require(*argv != NULL, "memory");
    memcpy(*argv, request + 5, *argc * sizeof **argv);
    environ = merged(request + 5 + *argc);
}

// Reports the process of a request by its number and its status. Returns only in that process.
static void attend(int connection, int *argc, char ***argv) {
    char **request = strings(connection);
    pid_t process = fork();
    require(process >= 0, "fork");
    if (process == 0) {
        close(connection);
        become(request, argc, argv);
        return;
    }
    int status = 0;
    dprintf(connection, "%d\n", process);
    require(waitpid(process, &status, 0) == process, "waitpid");
    dprintf(connection, "%d\n", status);
    _exit(0);
}

// Serves requests until stdin is closed. Returns only in processes that are to run the program.
static void serve(const char *path, int *argc, char ***argv) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    require(strlen(path) < sizeof address.sun_path, path);
    strcpy(address.sun_path, path);
    int listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    require(bind(listening, (struct sockaddr *)&address, sizeof address) == 0 && listen(listening, 64) == 0, path);
    require(write(1, "ready\n", 6) == 6, "stdout");
    signal(SIGCHLD, SIG_IGN);
    struct pollfd sources[] = {{.fd = 0}, {.fd = listening, .events = POLLIN}};
    for (;;) {
        if (poll(sources, 2, -1) < 0)
            continue;
        if (sources[0].revents) {
            char *folder = strdup(path);
            unlink(path);
            *strrchr(folder, '/') = '\0';
            _exit(rmdir(folder) != 0);
        }
        int connection = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
        if (connection < 0)
            continue;
        if (fork() == 0) {
            close(listening);
            signal(SIGCHLD, SIG_DFL);
            attend(connection, argc, argv);
            return;
        }
        close(connection);
    }
}

// Called by the program's first instructions, when its libraries are initialized.
int __libc_start_main(program *main, int argc, char **argv, void (*init)(void), void (*fini)(void), void (*rtld_fini)(void),
                      void *stack_end) {
    start *original = (start *)(uintptr_t)dlsym(RTLD_NEXT, "__libc_start_main");
    const char *path = getenv("FORK_SERVER_SOCKET");
    if (path != NULL)
        serve(path, &argc, &argv);
    return original(main, argc, argv, init, fini, rtld_fini, stack_end);
}
