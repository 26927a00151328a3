// The unit for another instruction set is linked but not run: the processor may lack it.
double first();
double second();

int main() { return first() == second() ? 0 : 1; }
