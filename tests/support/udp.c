/* `udp serve PORT` answers each datagram with the machine's name; `udp ask ADDRESS PORT FROM` sends one from a port and prints the answer. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

static struct sockaddr_in at(const char *address, const char *port) {
    struct sockaddr_in found = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    inet_pton(AF_INET, address, &found.sin_addr);
    return found;
}

int main(int count, char **arguments) {
    char data[256];
    int answerer = count == 3, end = socket(AF_INET, SOCK_DGRAM, 0);
    if (end < 0 || (!answerer && count != 5))
        return 2;
    struct sockaddr_in here = at("0.0.0.0", arguments[answerer ? 2 : 4]), peer;
    if (bind(end, (void *)&here, sizeof here))
        return perror("bind"), 1;
    while (answerer) {
        socklen_t length = sizeof peer;
        if (recvfrom(end, data, sizeof data, 0, (void *)&peer, &length) < 0)
            return perror("recvfrom"), 1;
        gethostname(data, sizeof data);
        sendto(end, data, strlen(data), 0, (void *)&peer, length);
    }
    struct timeval patience = {.tv_sec = 1};
    setsockopt(end, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    peer = at(arguments[2], arguments[3]);
    if (connect(end, (void *)&peer, sizeof peer) || send(end, "x", 1, 0) < 0)
        return perror("send"), 1;
    ssize_t got = recv(end, data, sizeof data, 0);
    if (got < 0)
        return perror("recv"), 1;
    printf("%.*s\n", (int)got, data);
    return 0;
}
