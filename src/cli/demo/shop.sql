-- A small shop, so that there is something to lose.
CREATE TABLE customers (
    id integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    name text NOT NULL,
    email text NOT NULL UNIQUE,
    joined date NOT NULL
);
CREATE TABLE products (
    id integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    name text NOT NULL,
    price numeric(10, 2) NOT NULL CHECK (price > 0)
);
CREATE TABLE orders (
    id integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    customer_id integer NOT NULL REFERENCES customers ON DELETE CASCADE,
    placed timestamptz NOT NULL,
    status text NOT NULL CHECK (status IN ('placed', 'paid', 'shipped', 'returned'))
);
CREATE TABLE order_items (
    order_id integer NOT NULL REFERENCES orders ON DELETE CASCADE,
    product_id integer NOT NULL REFERENCES products,
    quantity integer NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (order_id, product_id)
);
INSERT INTO customers (name, email, joined)
SELECT first || ' ' || last, lower(first || '.' || last) || '@example.com', date '2024-01-01' + (row_number() OVER ())::integer
FROM unnest(ARRAY['Ada', 'Ben', 'Cem', 'Dora', 'Emil', 'Fatma', 'Gus', 'Hana', 'Ivo', 'Jun']) AS first,
     unnest(ARRAY['Adler', 'Baker', 'Costa', 'Demir', 'Eriksen', 'Fischer', 'Garcia', 'Hansen', 'Ito', 'Jones']) AS last;
INSERT INTO products (name, price)
SELECT colour || ' ' || thing, 5 + 3 * (row_number() OVER ())
FROM unnest(ARRAY['red', 'green', 'blue', 'yellow']) AS colour,
     unnest(ARRAY['mug', 'lamp', 'chair', 'notebook', 'umbrella']) AS thing;
INSERT INTO orders (customer_id, placed, status)
SELECT 1 + n % 100, timestamptz '2025-01-01 08:00:00+00' + n * interval '3 hours', (ARRAY['placed', 'paid', 'shipped', 'returned'])[1 + n % 4]
FROM generate_series(0, 499) AS n;
INSERT INTO order_items (order_id, product_id, quantity)
SELECT o.id, 1 + (o.id + k * 7) % 20, 1 + (o.id + k) % 3
FROM orders AS o, generate_series(0, 2) AS k;
ANALYZE;
