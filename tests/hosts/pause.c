/* The first process of a pod: holds its namespaces until it is told to go. */
#include <signal.h>
#include <unistd.h>

static void leave(int signal) { (void)signal; _exit(0); }

int main(void) {
    /* A first process is spared every signal it has no handler for. */
    signal(SIGTERM, leave);
    signal(SIGINT, leave);
    for (;;) pause();
}
