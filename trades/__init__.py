"""Pure rules of trade capture: no broker, no table, no dataflow in their imports."""
