/* For one process under test: names below the suffixes in HOMEWARD_NAMES (separated by spaces) lead to this machine, and port 443 of it to HOMEWARD_PORT.
   So a test can be a platform whose address the gateway takes from nobody. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static int leads_home(const char *name) {
    const char *list = getenv("HOMEWARD_NAMES");
    size_t length = name ? strlen(name) : 0;
    while (list && *list) {
        size_t word = strcspn(list, " ");
        if (word && word <= length && strncmp(name + length - word, list, word) == 0) return 1;
        list += word + strspn(list + word, " ");
    }
    return 0;
}

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) = dlsym(RTLD_NEXT, "getaddrinfo");
    return real(leads_home(name) ? "127.0.0.1" : name, service, hints, found);
}

int connect(int socket, const struct sockaddr *address, socklen_t length) {
    int (*real)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "connect");
    const char *port = getenv("HOMEWARD_PORT");
    struct sockaddr_in changed;
    if (port && address->sa_family == AF_INET && length >= sizeof changed) {
        memcpy(&changed, address, sizeof changed);
        if (changed.sin_addr.s_addr == htonl(INADDR_LOOPBACK) && changed.sin_port == htons(443)) {
            changed.sin_port = htons((unsigned short)atoi(port));
            return real(socket, (const struct sockaddr *)&changed, sizeof changed);
        }
    }
    return real(socket, address, length);
}
