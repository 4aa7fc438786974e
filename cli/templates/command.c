/* What {{name}} does: a command with arguments and standard streams, and nothing else that was not granted. */
#include <ctype.h>
#include <stdio.h>

int main(int argc, char **argv) {
    int words = 0, inside = 0, character;
    while ((character = getchar()) != EOF) {
        int is_space = isspace(character);
        words += !is_space && !inside;
        inside = !is_space;
    }
    printf("Hello, %s! Your input has %d words.\n", argc > 1 ? argv[1] : "you", words);
    return 0;
}
